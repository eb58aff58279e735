//! `mimeo volume create`: creates a named volume.

use std::collections::BTreeMap;

use mimeo_engine::Engine;
use mimeo_engine::volumes::{VolumeError, VolumeRequest};

use crate::commands::run::settings::key_value;
use crate::commands::run::volumes::{LOCAL_DRIVER, check_driver};
use crate::error::CliError;
use crate::output;
use crate::values::size;

/// podman's options that name what is mounted.
const FOREIGN: [&str; 2] = ["type", "device"];

/// Arguments of `mimeo volume create`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  mimeo volume create data\n  mimeo volume create -o size=200g --label tier=db data\n  mimeo run -d -v data:/var/lib/data app"
)]
pub(crate) struct Args {
    /// Add a label; can be repeated
    #[arg(short, long, value_name = "KEY[=VALUE]", value_delimiter = ',')]
    label: Vec<String>,
    /// Option of the volume: size=SIZE, the size of its filesystem, 64g by default; it takes only the space that is
    /// written
    #[arg(short, long, value_name = "NAME=VALUE")]
    opt: Vec<String>,
    /// The driver: only local
    #[arg(short, long, value_name = "DRIVER", default_value = LOCAL_DRIVER)]
    driver: String,
    /// Do not fail if the volume exists
    #[arg(long)]
    ignore: bool,
    /// The volume's name; random by default
    name: Option<String>,
}

/// Creates the volume and prints its name.
pub(crate) fn run(engine: &Engine, args: Args) -> Result<i32, CliError> {
    check_driver("--driver", &args.driver)?;
    let (options, bytes) = parse_options(&args.opt)?;
    let name = args.name.map(|name| name.parse()).transpose()?;
    let labels = args.label.iter().map(|label| key_value(label)).collect();
    match engine.volumes().create(VolumeRequest { name, labels, options, bytes }) {
        Ok(volume) => output::line(volume.name.as_str())?,
        Err(VolumeError::Exists { name }) if args.ignore => output::line(name.as_str())?,
        Err(error) => return Err(error.into()),
    }
    Ok(0)
}

/// Parses the options; returns them as given, and the size among them. As podman, mount options of `o` are options, too.
fn parse_options(texts: &[String]) -> Result<(BTreeMap<String, String>, Option<u64>), CliError> {
    let mut bytes = None;
    for text in texts {
        let options = text.strip_prefix("o=").unwrap_or(text).split(',');
        for option in options {
            bytes = Some(parse_size(option)?);
        }
    }
    Ok((texts.iter().map(|text| key_value(text)).collect(), bytes))
}

fn parse_size(option: &str) -> Result<u64, CliError> {
    match key_value(option) {
        (key, value) if key == "size" => size(&value),
        (key, _) if FOREIGN.contains(&key.as_str()) => Err(CliError::usage(format!(
            "cannot create a volume with the option {option:?}: a named volume is a disk of mimeo's own; share a \
             directory of the host with `run --volume DIR:PATH`, or mount a temporary filesystem with `run --tmpfs`"
        ))),
        _ => Err(CliError::usage(format!("{option:?} is an unknown option of a volume: use size=SIZE"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_the_only_option() {
        let parsed = |texts: &[&str]| {
            let texts: Vec<_> = texts.iter().map(ToString::to_string).collect();
            parse_options(&texts).map(|(options, bytes)| (options.into_iter().collect::<Vec<_>>(), bytes))
        };
        let option = |key: &str, value: &str| vec![(key.to_owned(), value.to_owned())];
        assert_eq!(parsed(&[]).ok(), Some((vec![], None)));
        assert_eq!(parsed(&["size=1g"]).ok(), Some((option("size", "1g"), Some(1 << 30))));
        assert_eq!(parsed(&["o=size=100m"]).ok(), Some((option("o", "size=100m"), Some(100 << 20))));
        for bad in
            ["", "size", "size=big", "type=tmpfs", "device=/dev/sda", "o=uid=5", "o=size=1g,ro", "nocopy"]
        {
            assert!(parsed(&[bad]).is_err(), "{bad}");
        }
    }
}
