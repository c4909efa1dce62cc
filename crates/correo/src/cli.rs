//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use mail_config::{Duration, Size};

/// Queue control, accounts, configuration, and the whole suite in the foreground.
#[derive(Debug, Parser)]
#[command(
    name = "correo",
    version,
    arg_required_else_help = true,
    after_help = "Without --home and --config, /etc/correo/correo.toml is used, or else ./correo-home.\n\n\
Examples:
  correo up                                        try the whole suite, on high ports
  correo account add ana@aula.test                 asks for the password
  correo alias add info@aula.test ana@aula.test    mail to info goes to ana
  correo queue list                                what waits, and why
  correo store check --all                         is all mail on disk what was written?
  correo route info@aula.test                      where mail to an address goes"
)]
pub(crate) struct Cli {
    /// The folder with correo.toml and all data
    #[arg(long, global = true, value_name = "DIR", conflicts_with = "config")]
    pub(crate) home: Option<PathBuf>,
    /// The configuration
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Print JSON, one object a line
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Domains whose mail this server takes
    #[command(subcommand)]
    Domain(DomainVerb),
    /// Mailboxes and their passwords
    #[command(subcommand)]
    Account(AccountVerb),
    /// Names that stand for other addresses
    #[command(subcommand)]
    Alias(AliasVerb),
    /// Mail that waits for delivery
    #[command(subcommand)]
    Queue(QueueVerb),
    /// Mail on disk: check it, mend it, make its index anew
    #[command(subcommand)]
    Store(StoreVerb),
    /// Say how an address resolves, and why
    #[command(after_help = "Example:\n  correo route info@aula.test")]
    Route {
        /// local@domain
        address: String,
    },
    /// The configuration
    #[command(subcommand)]
    Config(ConfigVerb),
    /// Write a new home: correo.toml, a self-signed certificate, accounts for a demonstration
    #[command(after_help = "Examples:
  correo init --home /srv/mail --hostname mail.example.org --domain example.org --port-base 0
  correo init --home ./correo-home                 as `correo up` does at its first start")]
    Init(InitArgs),
    /// Run the whole suite in the foreground and send a mail through it
    #[command(after_help = "Examples:
  correo up                                        in ./correo-home, on ports 2025, 2587, 2993, …
  correo up --home /tmp/x --port-base 10000        on ports 10025, 10587, 10993, …
  correo up --once                                 only test; the exit status says whether all works")]
    Up(UpArgs),
}

#[derive(Debug, Subcommand)]
pub(crate) enum DomainVerb {
    /// Make a domain one of this server's
    #[command(after_help = "Example:\n  correo domain add aula.test")]
    Add {
        /// The domain
        domain: String,
    },
    /// List the domains
    #[command(after_help = "Example:\n  correo domain list --json")]
    List,
    /// Remove a domain that has no accounts and aliases any more
    #[command(after_help = "Example:\n  correo domain remove aula.test")]
    Remove {
        /// The domain
        domain: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum AccountVerb {
    /// Add an account; without --password-stdin asks for a password or makes one up
    #[command(after_help = "Examples:
  correo account add ana@aula.test --quota 2GiB
  printf '%s' \"$PASSWORD\" | correo account add ana@aula.test --password-stdin")]
    Add {
        /// local@domain
        address: String,
        /// Read the password from standard input, up to the end of the line
        #[arg(long)]
        password_stdin: bool,
        /// How much the mailbox may hold, such as 500MiB; no limit by default
        #[arg(long, value_name = "SIZE")]
        quota: Option<Size>,
    },
    /// List accounts
    #[command(after_help = "Example:\n  correo account list aula.test")]
    List {
        /// Only those of this domain
        domain: Option<String>,
    },
    /// Set a new password
    #[command(after_help = "Example:\n  correo account passwd ana@aula.test")]
    Passwd {
        /// local@domain
        address: String,
        /// Read the password from standard input, up to the end of the line
        #[arg(long)]
        password_stdin: bool,
    },
    /// Change how much a mailbox may hold
    #[command(after_help = "Example:\n  correo account quota ana@aula.test 2GiB")]
    Quota {
        /// local@domain
        address: String,
        /// Such as 500MiB; 0B is no limit
        size: Size,
    },
    /// Write all mail of an account into files that other programs read
    #[command(after_help = "Examples:
  correo account export ana@aula.test --format maildir ./ana
  correo account export ana@aula.test --format mbox ./ana-mbox

UIDs, flags, keywords and dates are kept. A Maildir is a Maildir++ with Dovecot's files for UIDs
and keywords; mbox files are quoted as mboxrd and have X-UID, Status and X-Keywords. Damaged
messages are left out and named; the exit status is 1 then.")]
    Export(Files),
    /// Take mail of other programs into an account
    #[command(after_help = "Examples:
  correo account import ana@aula.test --format maildir ~ana/Maildir
  correo account import ana@aula.test --format mbox /var/mail/ana

It can be given again: a message that is imported already is not imported twice. UIDs are kept in
mailboxes that had no message before. What cannot be imported is named; the exit status is 1 then.")]
    Import(Files),
    /// Remove an account and all its mail
    #[command(after_help = "Example:\n  correo account remove ana@aula.test --yes")]
    Remove {
        /// local@domain
        address: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

/// An account, and files with mail
#[derive(Debug, Args)]
pub(crate) struct Files {
    /// local@domain, or an account's id
    pub(crate) account: String,
    /// What the files are
    #[arg(long)]
    pub(crate) format: Format,
    /// The folder; an mbox can be a single file
    pub(crate) path: PathBuf,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub(crate) enum Format {
    /// A Maildir++, one file a message
    Maildir,
    /// An mbox file a mailbox
    Mbox,
}

#[derive(Debug, Subcommand)]
pub(crate) enum StoreVerb {
    /// Read all mail of an account and say what is not as it should be
    #[command(after_help = "Examples:
  correo store check ana@aula.test
  correo store check --all                         every account, and folders without one

The account can be used meanwhile. The exit status is 1 if something is wrong.")]
    Check {
        /// local@domain, or an account's id
        #[arg(required_unless_present = "all")]
        account: Option<String>,
        /// All accounts
        #[arg(long, conflicts_with = "account")]
        all: bool,
    },
    /// Mend what can be mended without loss: sums, counters, summaries, delivery keys
    #[command(after_help = "Examples:
  correo store repair ana@aula.test
  correo store repair ana@aula.test --drop-damaged")]
    Repair {
        /// local@domain, or an account's id
        account: String,
        /// Take messages whose octets are damaged out of their mailboxes
        #[arg(long)]
        drop_damaged: bool,
    },
    /// Make an account's index anew from its segments, and say what they could not tell
    #[command(after_help = "Examples:
  correo store rebuild ana@aula.test
  correo store rebuild ana@aula.test --ignore-index

Flags, names and UIDs come from the old index if it is whole, or else from the last snapshot of
it; the old index is kept as index.old. Mail for the account is deferred meanwhile.")]
    Rebuild {
        /// local@domain, or an account's id
        account: String,
        /// Do not look at the old index, even if it is whole
        #[arg(long)]
        ignore_index: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum AliasVerb {
    /// Add an alias for one or more addresses, here or elsewhere
    #[command(after_help = "Examples:
  correo alias add info@aula.test ana@aula.test lois@aula.test
  correo alias add lois@aula.test lois@example.org          a redirected account")]
    Add {
        /// local@domain, in a domain of this server
        alias: String,
        /// Where its mail goes
        #[arg(required = true)]
        targets: Vec<String>,
    },
    /// List aliases
    #[command(after_help = "Example:\n  correo alias list aula.test")]
    List {
        /// Only those of this domain
        domain: Option<String>,
    },
    /// Remove an alias
    #[command(after_help = "Example:\n  correo alias remove info@aula.test")]
    Remove {
        /// local@domain
        alias: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigVerb {
    /// Check correo.toml and the files it names
    #[command(after_help = "Example:\n  correo config check --config /etc/correo/correo.toml")]
    Check,
    /// Print every option with its value, the environment's included
    #[command(
        after_help = "Example:\n  diff <(correo config show --defaults) <(correo config show)"
    )]
    Show {
        /// The defaults instead
        #[arg(long)]
        defaults: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum QueueVerb {
    /// List messages with their recipients and last results
    #[command(after_help = "Examples:
  correo queue list
  correo queue list --to @example.org --state deferred --min-age 1h")]
    List {
        #[command(flatten)]
        which: Which,
        /// At most so many
        #[arg(long, default_value_t = 0, hide_default_value = true)]
        limit: u64,
    },
    /// Show all that is known of messages
    #[command(after_help = "Example:\n  correo queue show 01K8Z3V9QW7AB")]
    Show {
        /// Queue ids; - reads them from standard input
        #[arg(required = true)]
        ids: Vec<String>,
    },
    /// Print a message's content
    #[command(after_help = "Example:\n  correo queue cat 01K8Z3V9QW7AB")]
    Cat {
        /// The queue id
        id: String,
    },
    /// Keep messages from being delivered
    #[command(after_help = "Example:\n  correo queue hold --from ana@aula.test")]
    Hold {
        #[command(flatten)]
        which: Which,
    },
    /// Let held messages go on
    #[command(after_help = "Example:\n  correo queue release ALL")]
    Release {
        #[command(flatten)]
        which: Which,
    },
    /// Resolve the recipients again and try at once
    #[command(after_help = "Example:\n  correo queue requeue --to @aula.test")]
    Requeue {
        #[command(flatten)]
        which: Which,
    },
    /// Remove messages; their senders are not told
    #[command(after_help = "Examples:
  correo queue drop 01K8Z3V9QW7AB
  correo queue drop --from spammer@example.org --yes")]
    Drop {
        #[command(flatten)]
        which: Which,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Try deferred messages at once
    #[command(after_help = "Example:\n  correo queue flush --to @example.org")]
    Flush {
        #[command(flatten)]
        which: Which,
    },
    /// Count messages
    #[command(after_help = "Example:\n  correo queue count --state deferred")]
    Count {
        #[command(flatten)]
        which: Which,
    },
}

/// Which messages; all that is given must hold
#[derive(Debug, Default, Args)]
pub(crate) struct Which {
    /// Queue ids; - reads them from standard input, ALL is all messages
    #[arg(value_name = "ID")]
    pub(crate) ids: Vec<String>,
    /// A queue id
    #[arg(long = "id", value_name = "ID")]
    pub(crate) id: Vec<String>,
    /// The sender, or @domain
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) from: Option<String>,
    /// A recipient, or @domain
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) to: Option<String>,
    /// What the message does
    #[arg(long)]
    pub(crate) state: Option<State>,
    /// In the queue for at least so long, such as 90s, 5m, 12h or 5d
    #[arg(long, value_name = "DURATION")]
    pub(crate) min_age: Option<Duration>,
    /// At least so large, such as 10MiB
    #[arg(long, value_name = "SIZE")]
    pub(crate) min_size: Option<Size>,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub(crate) enum State {
    /// Waits for its first attempt
    Incoming,
    /// Is being delivered
    Active,
    /// Waits for another attempt
    Deferred,
    /// Held by an operator
    Held,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct InitArgs {
    /// The server's name in the DNS; mail.DOMAIN by default
    #[arg(long, value_name = "NAME")]
    pub(crate) hostname: Option<String>,
    /// The domain of the demonstration
    #[arg(long, default_value = "aula.test")]
    pub(crate) domain: String,
    /// What is added to each standard port
    #[arg(long, value_name = "N", default_value_t = 2000)]
    pub(crate) port_base: u16,
}

#[derive(Debug, Args)]
pub(crate) struct UpArgs {
    /// End after the test
    #[arg(long)]
    pub(crate) once: bool,
    /// What is added to each standard port; 2000 in a new home
    #[arg(long, value_name = "N")]
    pub(crate) port_base: Option<u16>,
}
