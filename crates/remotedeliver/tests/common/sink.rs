//! A mail exchanger that does as it is told.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mail_types::Secret;
use sasl::ScramKeys;
use sasl::server::{Exchange, Step};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// How a sink behaves.
#[derive(Clone)]
pub struct Manner {
    pub greeting: String,
    pub extensions: Vec<String>,
    pub tls: Option<TlsAcceptor>,
    /// TLS from the start.
    pub implicit_tls: bool,
    /// Instead of a handshake, noise.
    pub broken_tls: bool,
    /// Closes the connection as soon as the handshake is done.
    pub shy_tls: bool,
    /// The password of "relay".
    pub password: Option<String>,
    /// Recipients that it takes in one transaction.
    pub max_recipients: usize,
    /// Messages after which it closes the connection without a word.
    pub hang_up_after: usize,
    /// The wait before it answers a message.
    pub think: Duration,
    /// Answers after so many octets of content and closes.
    pub enough: Option<usize>,
}

impl Default for Manner {
    fn default() -> Self {
        Self {
            greeting: "220 mx.test ESMTP".into(),
            extensions: vec!["PIPELINING".into(), "8BITMIME".into()],
            tls: None,
            implicit_tls: false,
            broken_tls: false,
            shy_tls: false,
            password: None,
            max_recipients: usize::MAX,
            hang_up_after: usize::MAX,
            think: Duration::ZERO,
            enough: None,
        }
    }
}

/// A message that arrived.
#[derive(Debug, Clone)]
pub struct Mail {
    pub recipients: Vec<String>,
    pub content: Vec<u8>,
    pub encrypted: bool,
    pub authenticated: bool,
    pub command: String,
}

#[derive(Clone)]
pub struct Sink(Arc<Inner>);

struct Inner {
    manner: Manner,
    mails: Mutex<Vec<Mail>>,
    connections: AtomicUsize,
}

impl Sink {
    pub async fn start(address: SocketAddr, manner: Manner) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let sink = Self(Arc::new(Inner {
            manner,
            mails: Mutex::default(),
            connections: AtomicUsize::new(0),
        }));
        let serving = sink.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let sink = serving.clone();
                // A client that goes away is none of the sink's troubles.
                tokio::spawn(async move {
                    let _ = sink.serve(stream).await;
                });
            }
        });
        sink
    }

    pub fn mails(&self) -> Vec<Mail> {
        self.0.mails.lock().unwrap().clone()
    }

    pub fn connections(&self) -> usize {
        self.0.connections.load(Ordering::SeqCst)
    }

    async fn serve(&self, stream: TcpStream) -> std::io::Result<()> {
        self.0.connections.fetch_add(1, Ordering::SeqCst);
        stream.set_nodelay(true)?;
        let manner = &self.0.manner;
        if manner.implicit_tls {
            let stream = manner.tls.as_ref().unwrap().accept(stream).await?;
            let mut talk = Talk::new(BufReader::new(stream), self, true);
            talk.say(&manner.greeting).await?;
            talk.run().await?;
            return Ok(());
        }
        let mut talk = Talk::new(BufReader::new(stream), self, false);
        talk.say(&manner.greeting).await?;
        if let Some(stream) = talk.run().await? {
            let mut stream = stream.into_inner();
            if manner.broken_tls {
                return stream.write_all(b"noise, and no TLS at all\r\n").await;
            }
            let stream = manner.tls.as_ref().unwrap().accept(stream).await?;
            if manner.shy_tls {
                return Ok(());
            }
            Talk::new(BufReader::new(stream), self, true).run().await?;
        }
        Ok(())
    }
}

struct Talk<'a, S> {
    stream: BufReader<S>,
    sink: &'a Sink,
    encrypted: bool,
    authenticated: bool,
    recipients: Vec<String>,
    content: Vec<u8>,
    mail: String,
    messages: usize,
}

impl<'a, S: AsyncRead + AsyncWrite + Unpin> Talk<'a, S> {
    fn new(stream: BufReader<S>, sink: &'a Sink, encrypted: bool) -> Self {
        Self {
            stream,
            sink,
            encrypted,
            authenticated: false,
            recipients: Vec::new(),
            content: Vec::new(),
            mail: String::new(),
            messages: 0,
        }
    }

    async fn say(&mut self, line: &str) -> std::io::Result<()> {
        self.stream
            .write_all(format!("{line}\r\n").as_bytes())
            .await?;
        self.stream.flush().await
    }

    async fn line(&mut self) -> std::io::Result<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        Ok(line.trim_end().to_owned())
    }

    /// Until the end; or, answering the stream, until TLS is to begin.
    async fn run(mut self) -> std::io::Result<Option<BufReader<S>>> {
        let manner = self.sink.0.manner.clone();
        loop {
            let line = self.line().await?;
            let word = line
                .split([' ', ':'])
                .next()
                .unwrap_or_default()
                .to_ascii_uppercase();
            match word.as_str() {
                "EHLO" => self.hello(&manner).await?,
                "STARTTLS" => {
                    self.say("220 go").await?;
                    return Ok(Some(self.stream));
                }
                "AUTH" => self.auth(&line).await?,
                "MAIL" => {
                    self.recipients.clear();
                    self.mail = line;
                    self.say("250 2.1.0 ok").await?;
                }
                "RCPT" => self.rcpt(&line, &manner).await?,
                "DATA" if self.recipients.is_empty() => self.say("554 5.5.1 nobody").await?,
                "DATA" => {
                    self.say("354 go").await?;
                    if !self.data(&manner).await? {
                        return Ok(None);
                    }
                    self.take(&manner).await?;
                }
                "BDAT" => {
                    let size = line.split(' ').nth(1).unwrap().parse().unwrap();
                    self.content = vec![0; size];
                    self.stream.read_exact(&mut self.content).await?;
                    if self.recipients.is_empty() {
                        self.say("503 5.5.1 nobody").await?;
                    } else {
                        self.take(&manner).await?;
                    }
                }
                "RSET" => self.say("250 2.0.0 ok").await?,
                "QUIT" => {
                    self.say("221 2.0.0 bye").await?;
                    return Ok(None);
                }
                _ => self.say("500 5.5.2 what").await?,
            }
            if self.messages >= manner.hang_up_after {
                return Ok(None);
            }
        }
    }

    async fn hello(&mut self, manner: &Manner) -> std::io::Result<()> {
        let name = manner.greeting.split(' ').nth(1).unwrap_or("mx.test");
        let mut lines = vec![name.to_owned()];
        lines.extend(manner.extensions.iter().cloned());
        if !self.encrypted && (manner.tls.is_some() || manner.broken_tls) {
            lines.push("STARTTLS".into());
        }
        let last = lines.len() - 1;
        for (at, line) in lines.into_iter().enumerate() {
            let mark = if at == last { ' ' } else { '-' };
            self.say(&format!("250{mark}{line}")).await?;
        }
        Ok(())
    }

    async fn rcpt(&mut self, line: &str, manner: &Manner) -> std::io::Result<()> {
        let address = line.split(['<', '>']).nth(1).unwrap_or_default().to_owned();
        if address.starts_with("no") {
            return self.say("550 5.1.1 no such user").await;
        }
        if address.starts_with("later") {
            return self.say("450 4.2.1 later").await;
        }
        if self.recipients.len() >= manner.max_recipients {
            return self.say("452 4.5.3 too many").await;
        }
        self.recipients.push(address);
        self.say("250 2.1.5 ok").await
    }

    async fn data(&mut self, manner: &Manner) -> std::io::Result<bool> {
        self.content.clear();
        loop {
            let mut line = Vec::new();
            if self.stream.read_until(b'\n', &mut line).await? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            if line == b".\r\n" {
                return Ok(true);
            }
            self.content
                .extend(line.strip_prefix(b".").unwrap_or(&line));
            if manner
                .enough
                .is_some_and(|limit| self.content.len() > limit)
            {
                self.say("552 5.2.3 that is enough").await?;
                self.stream.shutdown().await?;
                // Some octets of the client are never read.
                tokio::time::sleep(Duration::from_millis(100)).await;
                return Ok(false);
            }
        }
    }

    async fn take(&mut self, manner: &Manner) -> std::io::Result<()> {
        tokio::time::sleep(manner.think).await;
        let mail = Mail {
            recipients: std::mem::take(&mut self.recipients),
            content: std::mem::take(&mut self.content),
            encrypted: self.encrypted,
            authenticated: self.authenticated,
            command: self.mail.clone(),
        };
        self.sink.0.mails.lock().unwrap().push(mail);
        self.messages += 1;
        self.say("250 2.0.0 taken").await
    }

    async fn auth(&mut self, line: &str) -> std::io::Result<()> {
        let mut words = line.split(' ').skip(1);
        let mut exchange = Exchange::new(words.next().unwrap().parse().unwrap(), "s".repeat(20));
        let mut step = match words.next() {
            Some(initial) => exchange.handle_response(&decode(initial)).unwrap(),
            None => exchange.begin(),
        };
        let password = self.sink.0.manner.password.clone().unwrap();
        let secret = Secret::new(password.clone().into_bytes());
        loop {
            step = match step {
                Step::Challenge(challenge) => {
                    self.say(&format!("334 {}", encode(&challenge))).await?;
                    let response = self.line().await?;
                    exchange.handle_response(&decode(&response)).unwrap()
                }
                Step::NeedKeys(_) => exchange
                    .handle_keys(ScramKeys::derive(&secret, b"salt".to_vec(), 4096))
                    .unwrap(),
                Step::CheckPassword(login) => {
                    let right = login.identity.authentication == "relay"
                        && *login.password.expose() == password.as_bytes();
                    self.authenticated = right;
                    break;
                }
                Step::Proved(data) => {
                    self.say(&format!("334 {}", encode(&data))).await?;
                    self.line().await?;
                    self.authenticated = true;
                    break;
                }
                Step::Failed => break,
            };
        }
        if self.authenticated {
            self.say("235 2.7.0 in").await
        } else {
            self.say("535 5.7.8 no").await
        }
    }
}

fn encode(data: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(data)
}

fn decode(text: &str) -> Vec<u8> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD
        .decode(text.trim_matches('='))
        .or_else(|_| base64::engine::general_purpose::STANDARD.decode(text))
        .unwrap()
}

/// A certificate for that name: the acceptor, and the PEM of its authority.
pub fn certificate(name: &str) -> (TlsAcceptor, String) {
    let key = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
    let certificate = key.cert.der().clone();
    let private =
        rustls_pki_types::PrivateKeyDer::try_from(key.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], private)
        .unwrap();
    (TlsAcceptor::from(Arc::new(config)), key.cert.pem())
}
