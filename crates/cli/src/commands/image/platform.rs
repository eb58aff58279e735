//! `--platform`, `--arch` and `--os`: the host's platform only, since guests run on the host's processor.

use mimeo_image::Platform;

use crate::error::CliError;

/// Which of an image's platforms is used.
#[derive(Debug, clap::Args)]
pub(crate) struct PlatformArgs {
    /// The image's platform; only the host's can be used
    #[arg(long, value_name = "OS/ARCH[/VARIANT]", conflicts_with_all = ["arch", "os"])]
    platform: Option<String>,
    /// The image's architecture; only the host's can be used
    #[arg(long, value_name = "ARCH")]
    arch: Option<String>,
    /// The image's operating system; only linux can be used
    #[arg(long, value_name = "OS")]
    os: Option<String>,
    /// The variant of the image's architecture; only the host's can be used: v8 on arm64
    #[arg(long, value_name = "VARIANT")]
    variant: Option<String>,
}

impl PlatformArgs {
    /// Refuses another platform than the host's.
    pub(crate) fn check(&self) -> Result<(), CliError> {
        let host = Platform::host();
        let variant = self.variant.as_deref().unwrap_or_default();
        if !variant.is_empty() && (host.architecture.as_str(), variant) != ("arm64", "v8") {
            return Err(CliError::usage(format!(
                "cannot use images for {host}/{variant}: machines on this host run images for {host}"
            )));
        }
        let requested = match &self.platform {
            Some(text) => text.parse()?,
            None => {
                let os = self.os.as_ref().unwrap_or(&host.os);
                let architecture = self.arch.as_ref().unwrap_or(&host.architecture);
                format!("{os}/{architecture}").parse::<Platform>()?
            }
        };
        if requested == host {
            return Ok(());
        }
        Err(CliError::usage(format!(
            "cannot use images for {requested}: machines on this host run images for {host}"
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(platform: Option<&str>, arch: Option<&str>, os: Option<&str>) -> Result<(), CliError> {
        let own = |text: Option<&str>| text.map(str::to_owned);
        PlatformArgs { platform: own(platform), arch: own(arch), os: own(os), variant: None }.check()
    }

    #[test]
    fn only_the_hosts_platform_is_accepted() {
        let host = Platform::host().to_string();
        assert!(check(None, None, None).is_ok());
        assert!(check(Some(&host), None, None).is_ok());
        assert!(check(None, Some(std::env::consts::ARCH), Some("linux")).is_ok());
        let error = check(Some("linux/s390x"), None, None).expect_err("refused").to_string();
        assert!(error.starts_with("cannot use images for linux/s390x: "), "{error}");
        assert!(check(None, None, Some("windows")).is_err());
        assert!(check(None, Some("s390x"), None).is_err());
        assert!(check(Some("nonsense"), None, None).is_err());
        let of_variant = |variant: &str| PlatformArgs {
            platform: None,
            arch: None,
            os: None,
            variant: Some(variant.into()),
        };
        assert!(of_variant("").check().is_ok());
        assert!(of_variant("v7").check().is_err());
        assert_eq!(of_variant("v8").check().is_ok(), Platform::host().architecture == "arm64");
    }
}
