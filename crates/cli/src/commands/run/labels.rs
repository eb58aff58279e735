//! Options of `run` that describe the machine.

use std::path::PathBuf;

use mimeo_engine::MachineSpec;

use super::settings::key_value;
use crate::error::CliError;
use crate::values::file_lines;

/// Labels from files, and annotations.
#[derive(Debug, clap::Args)]
pub(super) struct LabelOptions {
    /// Read labels from a file, one KEY=VALUE per line; can be repeated
    #[arg(long, value_name = "FILE")]
    label_file: Vec<PathBuf>,
    /// Add an annotation, which `inspect` shows; can be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    annotation: Vec<String>,
}

impl LabelOptions {
    /// Applies the options; `--label` takes precedence over a file.
    pub(super) fn apply(self, spec: &mut MachineSpec) -> Result<(), CliError> {
        let mut labels = std::collections::BTreeMap::new();
        for file in &self.label_file {
            labels.extend(file_lines("--label-file", file)?.iter().map(|line| key_value(line)));
        }
        labels.append(&mut spec.labels);
        spec.labels = labels;
        if let Some(bad) = self.annotation.iter().find(|text| !text.contains('=')) {
            return Err(CliError::usage(format!("--annotation {bad:?} is not KEY=VALUE")));
        }
        spec.annotations = self.annotation.iter().map(|text| key_value(text)).collect();
        Ok(())
    }
}
