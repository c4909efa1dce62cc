//! Writes a new home.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::net::{Ipv6Addr, TcpListener};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use mail_config::FILE_NAME;
use mail_types::{Domain, EmailAddress};
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, date_time_ymd};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::cli::InitArgs;
use crate::failure::{Failure, file};
use crate::output::Output;
use crate::{secret, suite};

/// The accounts of the demonstration, with their passwords: readable by the owner alone.
const ACCOUNTS: &str = "demonstration.json";
/// Who lives in the demonstration.
const NAMES: [&str; 2] = ["ana", "lois"];
/// How long the certificate counts, in years.
const VALID_YEARS: i16 = 10;

/// Services and their standard ports.
pub(crate) const SERVICES: [(&str, u16); 7] = [
    ("smtpd.mx.listen", 25),
    ("smtpd.submission.listen", 587),
    ("smtpd.submissions.listen", 465),
    ("pop3d.listen", 110),
    ("pop3d.listen_tls", 995),
    ("imapd.listen", 143),
    ("imapd.listen_tls", 993),
];

/// What the demonstration needs to know of its accounts.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Demonstration {
    pub(crate) domain: String,
    pub(crate) accounts: Vec<DemoAccount>,
}

/// An account of the demonstration.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct DemoAccount {
    pub(crate) address: String,
    pub(crate) password: String,
}

impl Demonstration {
    /// Reads the accounts of a home; `None` where it is no demonstration's.
    pub(crate) fn read(home: &Path) -> Result<Option<Self>, Failure> {
        let path = home.join(ACCOUNTS);
        match fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(file(&path)(error)),
            Ok(text) => serde_json::from_slice(&text)
                .map(Some)
                .map_err(|error| Failure::Refused(format!("{}: {error}", path.display()))),
        }
    }

    /// The file's path, to be told to people.
    pub(crate) fn path(home: &Path) -> PathBuf {
        home.join(ACCOUNTS)
    }
}

/// The folder that `init` and `up` mean.
pub(crate) fn home(home: Option<PathBuf>, config: Option<&PathBuf>) -> Result<PathBuf, Failure> {
    if config.is_some() {
        return Err(Failure::Usage(
            "this needs a whole folder: say --home DIR".to_owned(),
        ));
    }
    let folder = home.unwrap_or_else(|| suite::DEFAULT_HOME.into());
    std::path::absolute(&folder).map_err(file(&folder))
}

/// Makes a home and says so.
pub(crate) fn run(home: &Path, args: &InitArgs, out: Output) -> Result<(), Failure> {
    let config = make(home, args)?;
    out.both(
        format!(
            "{} is ready; `correo up --home {}` starts it",
            config.display(),
            home.display()
        ),
        &json!({ "home": home, "config": config }),
    )
}

/// Writes correo.toml, the certificate and the demonstration's passwords into an empty folder.
/// Gives the configuration's path.
pub(crate) fn make(home: &Path, args: &InitArgs) -> Result<PathBuf, Failure> {
    let config = home.join(FILE_NAME);
    if config.exists() {
        return Err(Failure::Usage(format!(
            "{} is there already; `correo up --home {}` uses it",
            config.display(),
            home.display()
        )));
    }
    let domain = parse(&args.domain)?;
    let hostname = match &args.hostname {
        Some(name) => parse(name)?,
        None => parse(&format!("mail.{domain}"))?,
    };
    let demonstration = demonstration(&domain)?;
    let text = configuration(&hostname, &domain, args.port_base)?;
    make_folder(home)?;
    make_folder(&home.join("tls"))?;
    let (certificate, key) = certificate(&hostname, &domain)?;
    write(&home.join("tls/key.pem"), 0o600, key.as_bytes())?;
    write(
        &home.join("tls/certificate.pem"),
        0o644,
        certificate.as_bytes(),
    )?;
    let accounts = serde_json::to_vec_pretty(&demonstration)
        .map_err(|error| Failure::Refused(error.to_string()))?;
    write(&Demonstration::path(home), 0o600, &accounts)?;
    // Last: with this file the home is complete.
    write(&config, 0o644, text.as_bytes())?;
    Ok(config)
}

fn parse(name: &str) -> Result<Domain, Failure> {
    name.parse()
        .map_err(|error| Failure::Usage(format!("{name:?} is no domain: {error}")))
}

fn demonstration(domain: &Domain) -> Result<Demonstration, Failure> {
    let account = |name: &&str| -> Result<DemoAccount, Failure> {
        let address: EmailAddress = format!("{name}@{domain}")
            .parse()
            .map_err(|error| Failure::Usage(format!("{name}@{domain}: {error}")))?;
        Ok(DemoAccount {
            address: address.to_string(),
            password: secret::generate(),
        })
    };
    Ok(Demonstration {
        domain: domain.to_string(),
        accounts: NAMES.iter().map(account).collect::<Result<_, _>>()?,
    })
}

fn configuration(hostname: &Domain, domain: &Domain, base: u16) -> Result<String, Failure> {
    let head = format!(
        "# Written by `correo init`. deploy/etc/correo.toml lists every option with its default.\n\n\
         [server]\nhostname = \"{hostname}\"\ndomain = \"{domain}\"\n\n\
         [tls]\n# Self-signed: good for trying things out. A real server wants one of an authority.\n\
         certificate = \"tls/certificate.pem\"\nkey = \"tls/key.pem\""
    );
    let mut lines = vec![head];
    let mut table = "";
    for (option, port) in SERVICES {
        let (section, key) = option.rsplit_once('.').unwrap_or(("", option));
        if section != table {
            lines.push(format!("\n[{section}]"));
            table = section;
        }
        lines.push(format!("{key} = [\"{}\"]", address(base, port)?));
    }
    Ok(lines.join("\n") + "\n")
}

/// The address for a standard port and a base: all of this machine, by IPv6 where it has it.
pub(crate) fn address(base: u16, port: u16) -> Result<String, Failure> {
    let port = base.checked_add(port).ok_or_else(|| {
        Failure::Usage(format!(
            "{base} and {port} is no port; --port-base is at most 64540"
        ))
    })?;
    let ipv6 = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
    Ok(if ipv6 {
        format!("[::]:{port}")
    } else {
        format!("0.0.0.0:{port}")
    })
}

/// A self-signed certificate with all names under which this server is spoken to, and its key.
fn certificate(hostname: &Domain, domain: &Domain) -> Result<(String, String), Failure> {
    let failed =
        |error: rcgen::Error| Failure::Refused(format!("cannot make a certificate: {error}"));
    let mut names: Vec<String> = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).into();
    for name in [hostname, domain] {
        let name = name.to_string();
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let mut params = CertificateParams::new(names).map_err(failed)?;
    params
        .distinguished_name
        .push(DnType::CommonName, hostname.to_string());
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let today = Timestamp::now().to_zoned(TimeZone::UTC).date();
    let month = today.month().unsigned_abs();
    // The first of the month: on a day like 29 February the last year may lack the day.
    params.not_before = date_time_ymd(today.year().into(), month, 1);
    params.not_after = date_time_ymd((today.year() + VALID_YEARS).into(), month, 1);
    let key = KeyPair::generate().map_err(failed)?;
    let certificate = params.self_signed(&key).map_err(failed)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

fn make_folder(folder: &Path) -> Result<(), Failure> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(file(folder))
}

fn write(path: &Path, mode: u32, content: &[u8]) -> Result<(), Failure> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(path)
        .and_then(|mut file| file.write_all(content))
        .map_err(file(path))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use mail_config::{Config, Source};

    use super::*;

    fn args(domain: &str, port_base: u16) -> InitArgs {
        InitArgs {
            hostname: None,
            domain: domain.to_owned(),
            port_base,
        }
    }

    #[test]
    fn a_home_is_complete_and_is_not_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().join("home");
        let out = Output { json: true };
        run(&home, &args("aula.test", 2000), out).unwrap();
        let config = Config::load(&Source::Home(home.clone()), []).unwrap();
        assert_eq!(config.server.hostname.to_string(), "mail.aula.test");
        assert_eq!(config.smtpd.mx.listen[0].port(), 2025);
        assert_eq!(config.imapd.listen_tls[0].port(), 2993);
        assert!(config.tls.certificate.exists());
        for secret in [&config.tls.key, &Demonstration::path(&home)] {
            let mode = fs::metadata(secret).unwrap().permissions().mode();
            assert_eq!(mode & 0o077, 0, "{}", secret.display());
        }
        let demonstration = Demonstration::read(&home).unwrap().unwrap();
        assert_eq!(demonstration.accounts[1].address, "lois@aula.test");
        let again = run(&home, &args("aula.test", 2000), out).unwrap_err();
        assert!(again.to_string().contains("is there already"), "{again}");
    }

    #[test]
    fn what_is_no_domain_or_port_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let out = Output { json: true };
        for (domain, base) in [("a b", 2000), ("aula.test", 65000)] {
            let error = run(folder.path(), &args(domain, base), out).unwrap_err();
            assert!(matches!(error, Failure::Usage(_)), "{error}");
        }
        assert!(!folder.path().join(FILE_NAME).exists());
    }
}
