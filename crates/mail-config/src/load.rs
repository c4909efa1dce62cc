use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value as Json;
use toml::de::{DeTable, DeValue};
use toml::{Spanned, Table, Value};

use crate::schema::{Schema, Unknown};
use crate::{Config, ConfigError};

/// The name of the configuration in a home folder.
pub const FILE_NAME: &str = "correo.toml";
/// What begins the name of each variable of the environment that sets a key.
const PREFIX: &str = "CORREO__";

/// Where the configuration is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// `correo.toml` in this folder, which is the home.
    Home(PathBuf),
    /// This file; the home is its `home` key, or else its folder.
    File(PathBuf),
}

impl Source {
    /// The file to be read.
    pub fn file(&self) -> PathBuf {
        match self {
            Self::Home(folder) => folder.join(FILE_NAME),
            Self::File(file) => file.clone(),
        }
    }
}

impl Config {
    /// Reads the file, puts the environment over it (`CORREO__SMTPD__MAX_CONNECTIONS=100` sets
    /// `smtpd.max_connections`), and makes all paths absolute.
    pub fn load(
        source: &Source,
        env: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let file = source.file();
        let text = fs::read_to_string(&file).map_err(|source| ConfigError::Read {
            file: file.clone(),
            source,
        })?;
        let mut config = Self::parse(&file, &text, env)?;
        config.resolve(source)?;
        Ok(config)
    }

    /// Parses the file's text and puts the environment over it; paths stay as they are written.
    pub fn parse(
        file: &Path,
        text: &str,
        env: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let document = Document { file, text };
        let schema = Schema::new();
        let config = document.read(&schema)?;
        let overrides: Vec<_> = env
            .into_iter()
            .filter(|(name, _)| name.starts_with(PREFIX))
            .collect();
        if overrides.is_empty() {
            return Ok(config);
        }
        let mut table: Table = text.parse().map_err(|error| document.syntax(&error))?;
        let mut config = config;
        for (name, value) in overrides {
            config = apply(&schema, &mut table, &name, &value)
                .map_err(|problem| ConfigError::Environment { name, problem })?;
        }
        Ok(config)
    }

    fn resolve(&mut self, source: &Source) -> Result<(), ConfigError> {
        let file = source.file();
        let folder = match file.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let home = match source {
            Source::Home(home) => home.clone(),
            Source::File(_) => folder.join(&self.home),
        };
        self.home = std::path::absolute(&home)
            .map_err(|source| ConfigError::Read { file: home, source })?;
        let home = self.home.clone();
        for path in self.paths_mut() {
            // Empty means that the option is not set.
            if !path.as_os_str().is_empty() {
                *path = home.join(&*path);
            }
        }
        self.rpc.resolve_sockets();
        Ok(())
    }
}

struct Document<'a> {
    file: &'a Path,
    text: &'a str,
}

impl Document<'_> {
    fn read(&self, schema: &Schema) -> Result<Config, ConfigError> {
        let table = DeTable::parse(self.text).map_err(|error| self.syntax(&error))?;
        self.check_keys(schema, table.get_ref(), &mut Vec::new())?;
        let found = table.clone();
        Config::deserialize(toml::Deserializer::from(table))
            .map_err(|error| self.bad_value(found.get_ref(), &error))
    }

    fn check_keys<'t>(
        &self,
        schema: &Schema,
        table: &'t DeTable<'_>,
        path: &mut Vec<&'t str>,
    ) -> Result<(), ConfigError> {
        for (key, value) in table {
            path.push(key.get_ref());
            if let Err(Unknown { key: name, advice }) = schema.find(path) {
                return Err(ConfigError::UnknownKey {
                    file: self.file.to_owned(),
                    line: self.line(key.span().start),
                    key: name,
                    advice,
                });
            }
            if let DeValue::Table(inner) = value.get_ref() {
                self.check_keys(schema, inner, path)?;
            }
            path.pop();
        }
        Ok(())
    }

    fn bad_value(&self, table: &DeTable<'_>, error: &toml::de::Error) -> ConfigError {
        let at = error.span().map_or(0, |span| span.start);
        let mut path = Vec::new();
        locate(table, at, &mut path);
        ConfigError::Value {
            file: self.file.to_owned(),
            line: self.line(at),
            key: path.join("."),
            problem: error.message().to_owned(),
        }
    }

    fn syntax(&self, error: &toml::de::Error) -> ConfigError {
        ConfigError::Syntax {
            file: self.file.to_owned(),
            line: self.line(error.span().map_or(0, |span| span.start)),
            problem: error.message().to_owned(),
        }
    }

    fn line(&self, offset: usize) -> usize {
        let before = self.text.get(..offset).unwrap_or_default();
        1 + before.matches('\n').count()
    }
}

/// The path of the innermost key whose value, or itself, is at the offset.
fn locate<'t>(table: &'t DeTable<'_>, at: usize, path: &mut Vec<&'t str>) -> bool {
    for (key, value) in table {
        path.push(key.get_ref());
        if let DeValue::Table(inner) = value.get_ref()
            && locate(inner, at, path)
        {
            return true;
        }
        if covers(&key.span(), at) || covers(&Spanned::span(value), at) {
            return true;
        }
        path.pop();
    }
    false
}

fn covers(span: &Range<usize>, at: usize) -> bool {
    span.contains(&at)
}

/// Sets one key from the environment and reads the whole again, so that what is wrong is told with
/// the variable's name.
fn apply(schema: &Schema, table: &mut Table, name: &str, value: &str) -> Result<Config, String> {
    let lower = name.get(PREFIX.len()..).unwrap_or_default().to_lowercase();
    let path: Vec<&str> = lower.split("__").collect();
    let default = schema
        .find(&path)
        .map_err(|unknown| format!("there is no key {}{}", unknown.key, unknown.advice))?;
    set(table, &path, to_toml(default, value)?)?;
    Config::deserialize(table.clone()).map_err(|error| error.message().to_owned())
}

/// Reads a variable's text as the kind of value that its key has by default.
fn to_toml(default: Option<&Json>, text: &str) -> Result<Value, String> {
    let wrong = |expected: &str| format!("expected {expected}, found {text:?}");
    match default {
        Some(Json::Bool(_)) => text
            .parse()
            .map(Value::Boolean)
            .map_err(|_| wrong("true or false")),
        Some(Json::Number(number)) if number.is_f64() => text
            .parse()
            .map(Value::Float)
            .map_err(|_| wrong("a number")),
        Some(Json::Number(_)) => text
            .parse()
            .map(Value::Integer)
            .map_err(|_| wrong("a whole number")),
        Some(Json::Array(_)) => Ok(list(text)),
        Some(Json::Object(_)) => Err("that is a table; name one of its keys".to_owned()),
        Some(Json::String(_)) => Ok(text.into()),
        // A key of a table that takes any: what looks like a number or truth value is one.
        None | Some(Json::Null) => Ok(text
            .parse()
            .map(Value::Integer)
            .or_else(|_| text.parse().map(Value::Boolean))
            .unwrap_or_else(|_| text.into())),
    }
}

/// A list as TOML has it, or items with commas between them. `[::]:25` is of the second kind.
fn list(text: &str) -> Value {
    let assignment = format!("value = {text}").parse::<Table>().ok();
    let written = assignment.and_then(|mut table| table.remove("value"));
    if let Some(Value::Array(items)) = written {
        return Value::Array(items);
    }
    let items = text.split(',').map(str::trim);
    Value::Array(
        items
            .filter(|item| !item.is_empty())
            .map(Value::from)
            .collect(),
    )
}

fn set(table: &mut Table, path: &[&str], value: Value) -> Result<(), String> {
    let Some((name, tables)) = path.split_last() else {
        return Ok(());
    };
    let mut at = table;
    for step in tables {
        let next = at
            .entry(*step)
            .or_insert_with(|| Value::Table(Table::new()));
        let Value::Table(inner) = next else {
            return Err(format!("{step} is no table"));
        };
        at = inner;
    }
    at.insert((*name).to_owned(), value);
    Ok(())
}

#[cfg(test)]
mod tests;
