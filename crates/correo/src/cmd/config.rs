use std::fs::File;

use mail_config::{Config, Source};
use serde_json::json;

use crate::cli::ConfigVerb;
use crate::failure::{Failure, file};
use crate::output::Output;
use crate::suite::load;

pub(crate) fn run(verb: &ConfigVerb, source: &Source, out: Output) -> Result<(), Failure> {
    match verb {
        ConfigVerb::Check => check(source, out),
        ConfigVerb::Show { defaults: true } => show(&Config::default(), out),
        ConfigVerb::Show { defaults: false } => show(&load(source)?, out),
    }
}

fn check(source: &Source, out: Output) -> Result<(), Failure> {
    let config = load(source)?;
    for path in [&config.tls.certificate, &config.tls.key] {
        if !path.as_os_str().is_empty() {
            File::open(path).map_err(file(path))?;
        }
    }
    let checked = source.file().display().to_string();
    out.both(format!("{checked} is good"), &json!({ "good": checked }))
}

fn show(config: &Config, out: Output) -> Result<(), Failure> {
    let toml = config
        .to_toml()
        .map_err(|error| Failure::Refused(error.to_string()))?;
    let object =
        serde_json::to_value(config).map_err(|error| Failure::Refused(error.to_string()))?;
    out.both(toml.trim_end(), &object)
}
