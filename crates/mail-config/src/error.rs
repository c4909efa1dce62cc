use std::io;
use std::path::PathBuf;

/// Why there is no configuration. The text tells the operator where and what to write instead.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A variable of the environment that has no key, or a value that does not fit its key.
    #[error("environment variable {name}: {problem}")]
    Environment {
        /// The variable.
        name: String,
        /// What is wrong and what is right.
        problem: String,
    },
    /// The file cannot be read.
    #[error("cannot read {}: {source}{}", file.display(), advice(source))]
    Read {
        /// The file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is no TOML.
    #[error("{}:{line}: {problem}", file.display())]
    Syntax {
        /// The file.
        file: PathBuf,
        /// From 1.
        line: usize,
        /// What is wrong.
        problem: String,
    },
    /// A key that does not exist.
    #[error("{}:{line}: unknown key {key}{advice}", file.display())]
    UnknownKey {
        /// The file.
        file: PathBuf,
        /// From 1.
        line: usize,
        /// With its table.
        key: String,
        /// The nearest valid key, as a sentence.
        advice: String,
    },
    /// A value that does not fit its key.
    #[error("{}:{line}: {key}: {problem}", file.display())]
    Value {
        /// The file.
        file: PathBuf,
        /// From 1.
        line: usize,
        /// With its table.
        key: String,
        /// What is wrong and what is expected.
        problem: String,
    },
}

fn advice(source: &io::Error) -> &'static str {
    if source.kind() == io::ErrorKind::NotFound {
        "; `correo init --home DIR` writes one, and --home or --config tell where it is"
    } else {
        ""
    }
}
