use mail_config::Config;
use mail_rpc::pb::directory::v1 as pb;
use serde_json::json;

use super::directory::{connect, done, for_each};
use crate::cli::AliasVerb;
use crate::failure::Failure;
use crate::output::Output;

pub(crate) async fn run(verb: AliasVerb, config: &Config, out: Output) -> Result<(), Failure> {
    let mut admin = connect(config).await?;
    match verb {
        AliasVerb::Add { alias, targets } => {
            let request = pb::AddAliasRequest {
                alias: alias.clone(),
                targets: targets.clone(),
            };
            done(admin.add_alias(request).await)?;
            out.both(
                format!("mail to {alias} goes to {}", targets.join(", ")),
                &json!({ "added": alias, "targets": targets }),
            )
        }
        AliasVerb::Remove { alias } => {
            let request = pb::RemoveAliasRequest {
                alias: alias.clone(),
            };
            done(admin.remove_alias(request).await)?;
            out.both(format!("{alias} is removed"), &json!({ "removed": alias }))
        }
        AliasVerb::List { domain } => {
            let request = pb::ListAliasesRequest {
                domain: domain.unwrap_or_default(),
            };
            for_each(admin.list_aliases(request).await, |row| {
                out.both(
                    format!("{} → {}", row.alias, row.targets.join(", ")),
                    &json!({ "alias": row.alias, "targets": row.targets }),
                )
            })
            .await
        }
    }
}
