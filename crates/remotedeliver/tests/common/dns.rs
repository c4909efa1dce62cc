//! A tiny name server.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use hickory_resolver::proto::op::{Message, MessageType, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, AAAA, CNAME, MX, SOA};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use tokio::net::UdpSocket;

/// What it knows. A name that is not here does not exist.
#[derive(Default)]
pub struct Zone(HashMap<Name, Entry>);

enum Entry {
    Records(Vec<RData>),
    /// SERVFAIL.
    Broken,
    /// No answer at all.
    Silent,
}

fn name(text: &str) -> Name {
    Name::from_ascii(format!("{text}.")).unwrap()
}

impl Zone {
    fn add(mut self, owner: &str, data: Option<RData>) -> Self {
        let entry = self
            .0
            .entry(name(owner))
            .or_insert_with(|| Entry::Records(Vec::new()));
        if let Entry::Records(records) = entry {
            records.extend(data);
        }
        self
    }

    pub fn mx(self, owner: &str, preference: u16, host: &str) -> Self {
        let host = if host == "." {
            Name::root()
        } else {
            name(host)
        };
        self.add(owner, Some(RData::MX(MX::new(preference, host))))
    }

    pub fn host(self, owner: &str, ip: &str) -> Self {
        let data = match ip.parse().unwrap() {
            IpAddr::V4(ip) => RData::A(A(ip)),
            IpAddr::V6(ip) => RData::AAAA(AAAA(ip)),
        };
        self.add(owner, Some(data))
    }

    pub fn alias(self, owner: &str, target: &str) -> Self {
        self.add(owner, Some(RData::CNAME(CNAME(name(target)))))
    }

    /// It exists, and has no record.
    pub fn empty(self, owner: &str) -> Self {
        self.add(owner, None)
    }

    pub fn broken(mut self, owner: &str) -> Self {
        self.0.insert(name(owner), Entry::Broken);
        self
    }

    pub fn silent(mut self, owner: &str) -> Self {
        self.0.insert(name(owner), Entry::Silent);
        self
    }

    fn answer(&self, query: &Message) -> Option<Message> {
        let question = query.queries.first()?.clone();
        let mut answer = Message::new(
            query.metadata.id,
            MessageType::Response,
            query.metadata.op_code,
        );
        answer.metadata.recursion_available = true;
        answer.add_query(question.clone());
        let mut owner = Name::from_ascii(question.name().to_ascii().to_ascii_lowercase()).unwrap();
        loop {
            match self.0.get(&owner) {
                None => answer.metadata.response_code = ResponseCode::NXDomain,
                Some(Entry::Broken) => answer.metadata.response_code = ResponseCode::ServFail,
                Some(Entry::Silent) => return None,
                Some(Entry::Records(records)) => {
                    let alias = records.iter().find_map(|data| match data {
                        RData::CNAME(target) => Some(target.0.clone()),
                        _ => None,
                    });
                    let wanted = |data: &&RData| {
                        data.record_type() == question.query_type()
                            || data.record_type() == RecordType::CNAME
                    };
                    for data in records.iter().filter(wanted) {
                        answer.add_answer(Record::from_rdata(owner.clone(), 60, data.clone()));
                    }
                    if let Some(target) = alias {
                        owner = target;
                        continue;
                    }
                }
            }
            break;
        }
        if answer.answers.is_empty() {
            let soa = SOA::new(name("ns.test"), name("root.test"), 1, 60, 60, 60, 1);
            answer.add_authority(Record::from_rdata(name("test"), 1, RData::SOA(soa)));
        }
        Some(answer)
    }
}

/// Serves the zone over UDP.
pub async fn serve(zone: Zone) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buffer = [0; 4096];
        while let Ok((count, peer)) = socket.recv_from(&mut buffer).await {
            let query = Message::from_vec(&buffer[..count]).unwrap();
            if let Some(answer) = zone.answer(&query) {
                socket
                    .send_to(&answer.to_vec().unwrap(), peer)
                    .await
                    .unwrap();
            }
        }
    });
    address
}
