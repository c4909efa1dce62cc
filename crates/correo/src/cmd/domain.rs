use mail_config::Config;
use mail_rpc::pb::directory::v1 as pb;
use serde_json::json;

use super::directory::{connect, done, for_each};
use crate::cli::DomainVerb;
use crate::failure::Failure;
use crate::output::{Output, Table};

pub(crate) async fn run(verb: DomainVerb, config: &Config, out: Output) -> Result<(), Failure> {
    let mut admin = connect(config).await?;
    match verb {
        DomainVerb::Add { domain } => {
            let request = pb::AddDomainRequest {
                domain: domain.clone(),
            };
            done(admin.add_domain(request).await)?;
            out.both(
                format!("{domain} is a domain of this server"),
                &json!({ "added": domain }),
            )
        }
        DomainVerb::Remove { domain } => {
            let request = pb::RemoveDomainRequest {
                domain: domain.clone(),
            };
            done(admin.remove_domain(request).await)?;
            out.both(
                format!("{domain} is removed"),
                &json!({ "removed": domain }),
            )
        }
        DomainVerb::List => {
            let mut table = Table::new(&["DOMAIN", "ACCOUNTS", "ALIASES"]);
            let rows = admin.list_domains(pb::ListDomainsRequest {}).await;
            for_each(rows, |row| {
                let pb::DomainEntry {
                    domain,
                    accounts,
                    aliases,
                } = row;
                out.object(&json!({ "domain": domain, "accounts": accounts, "aliases": aliases }))?;
                table.row(vec![domain, accounts.to_string(), aliases.to_string()]);
                Ok(())
            })
            .await?;
            if out.json {
                return Ok(());
            }
            if table.is_empty() {
                return out.say("no domains; `correo domain add DOMAIN` makes one this server's");
            }
            table.print()
        }
    }
}
