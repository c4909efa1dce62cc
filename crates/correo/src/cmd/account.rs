use mail_config::{Config, Size};
use mail_rpc::pb::directory::v1 as pb;
use mail_rpc::pb::mailbox::v1 as mailbox;
use mail_types::AccountId;
use mailbox::mailbox_admin_service_client::MailboxAdminServiceClient;
use serde_json::json;

use super::directory::{Admin, connect, done, for_each};
use crate::cli::AccountVerb;
use crate::failure::Failure;
use crate::output::{Output, Table, confirm, size};
use crate::secret::{self, Password};
use crate::suite::{call_failed, channel};

pub(crate) async fn run(verb: AccountVerb, config: &Config, out: Output) -> Result<(), Failure> {
    let mut admin = connect(config).await?;
    match verb {
        AccountVerb::Add {
            address,
            password_stdin,
            quota,
        } => {
            let password = secret::obtain(password_stdin, &address)?;
            let quota = quota.unwrap_or_default();
            let id = add(&mut admin, &address, &password.text, quota).await?;
            told(&address, "added", id, &password, out)
        }
        AccountVerb::Passwd {
            address,
            password_stdin,
        } => {
            let password = secret::obtain(password_stdin, &address)?;
            let request = pb::SetPasswordRequest {
                address: address.clone(),
                password: password.text.clone().into(),
            };
            let id = done(admin.set_password(request).await)?.account_id;
            told(&address, "changed", id.into(), &password, out)
        }
        AccountVerb::Quota {
            address,
            size: quota,
        } => {
            let request = pb::SetQuotaRequest {
                address: address.clone(),
                quota_bytes: quota.bytes(),
            };
            done(admin.set_quota(request).await)?;
            out.both(
                format!("{address} may hold {}", limit(quota.bytes())),
                &json!({ "changed": address, "quota_bytes": quota.bytes() }),
            )
        }
        // These go to the mail store; see `export` and `import`.
        AccountVerb::Export(_) | AccountVerb::Import(_) => Ok(()),
        AccountVerb::List { domain } => list(&mut admin, domain, out).await,
        AccountVerb::Remove { address, yes } => {
            remove(&mut admin, &address, yes, config, out).await
        }
    }
}

/// Adds an account.
pub(crate) async fn add(
    admin: &mut Admin,
    address: &str,
    password: &str,
    quota: Size,
) -> Result<AccountId, Failure> {
    let request = pb::AddAccountRequest {
        address: address.to_owned(),
        password: password.to_owned().into(),
        quota_bytes: quota.bytes(),
    };
    Ok(done(admin.add_account(request).await)?.account_id.into())
}

fn told(
    address: &str,
    what: &str,
    id: AccountId,
    password: &Password,
    out: Output,
) -> Result<(), Failure> {
    let generated = password.generated.then_some(&password.text);
    out.both(
        format!("{address} is {what}"),
        &json!({ what: address, "account_id": id.to_string(), "password": generated }),
    )?;
    match generated {
        Some(text) => out.say(format!("its password is {text}")),
        None => Ok(()),
    }
}

async fn list(admin: &mut Admin, domain: Option<String>, out: Output) -> Result<(), Failure> {
    let request = pb::ListAccountsRequest {
        domain: domain.unwrap_or_default(),
    };
    let mut table = Table::new(&["ADDRESS", "QUOTA", "ID"]);
    for_each(admin.list_accounts(request).await, |row| {
        let id = AccountId::from(row.account_id).to_string();
        out.object(&json!({
            "address": row.address, "account_id": id, "quota_bytes": row.quota_bytes,
        }))?;
        table.row(vec![row.address, limit(row.quota_bytes), id]);
        Ok(())
    })
    .await?;
    match (out.json, table.is_empty()) {
        (true, _) => Ok(()),
        (false, true) => out.say("no accounts; `correo account add ADDRESS` adds one"),
        (false, false) => table.print(),
    }
}

fn limit(quota: u64) -> String {
    if quota == 0 {
        "no limit".to_owned()
    } else {
        size(quota)
    }
}

/// The name goes first, so that no mail comes in behind the folder's removal; the mail store is
/// asked for before that, so that nothing is removed by halves when it does not run.
async fn remove(
    admin: &mut Admin,
    address: &str,
    yes: bool,
    config: &Config,
    out: Output,
) -> Result<(), Failure> {
    let store = channel(config, "localdeliver", &config.rpc.mailbox_admin).await?;
    if !yes && !confirm(&format!("Remove {address} and all its mail?"))? {
        return out.say("nothing is removed");
    }
    let request = pb::RemoveAccountRequest {
        address: address.to_owned(),
    };
    let id = AccountId::from(done(admin.remove_account(request).await)?.account_id);
    let request = mailbox::RemoveAccountRequest {
        account_id: id.get(),
    };
    let removed = MailboxAdminServiceClient::new(store)
        .remove_account(request)
        .await;
    let left = |why: String| {
        Failure::Refused(format!(
            "{address} is removed, but its mail is not ({why}): remove the folder {id} in {} \
             while localdeliver is stopped",
            config.localdeliver.data_dir.display()
        ))
    };
    let response =
        removed.map_err(|status| left(call_failed("localdeliver", &status).to_string()))?;
    if let Some(failure) = response.into_inner().failure {
        return Err(left(failure.detail));
    }
    out.both(
        format!("{address} and its mail are removed"),
        &json!({ "removed": address, "account_id": id.to_string() }),
    )
}
