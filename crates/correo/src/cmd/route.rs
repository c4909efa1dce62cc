use mail_config::Config;
use mail_rpc::pb::queue::v1 as pb;
use pb::queue_admin_service_client::QueueAdminServiceClient;
use serde_json::{Value, json};

use super::queue::{NAME, outcome_json, transport};
use crate::failure::Failure;
use crate::output::Output;
use crate::suite::{call_failed, channel};

/// Prints each step of the way of an address, and where it ends.
pub(crate) async fn run(address: &str, config: &Config, out: Output) -> Result<(), Failure> {
    let channel = channel(config, NAME, &config.rpc.queue_admin).await?;
    let request = pb::ExplainRequest {
        address: address.to_owned(),
    };
    let explained = QueueAdminServiceClient::new(channel)
        .explain(request)
        .await
        .map_err(|status| call_failed(NAME, &status))?
        .into_inner();
    for step in &explained.steps {
        let indent = "  ".repeat(usize::try_from(step.depth).unwrap_or(0));
        out.say(format!("{indent}{}: {}", step.address, step.finding))?;
    }
    for target in &explained.targets {
        out.say(ending(target))?;
    }
    let steps: Vec<Value> = explained
        .steps
        .iter()
        .map(
            |step| json!({ "depth": step.depth, "address": step.address, "finding": step.finding }),
        )
        .collect();
    let targets: Vec<Value> = explained
        .targets
        .iter()
        .map(|target| {
            json!({
                "address": target.address,
                "transport": transport(target.transport()),
                "destination": target.destination,
                "failure": target.failure.as_ref().map(outcome_json),
            })
        })
        .collect();
    out.object(&json!({ "address": address, "steps": steps, "targets": targets }))
}

fn ending(target: &pb::ExplainTarget) -> String {
    if let Some(failure) = &target.failure {
        return format!("→ {} is refused: {}", target.address, failure.diagnostic);
    }
    let (address, destination) = (&target.address, &target.destination);
    match target.transport() {
        pb::Transport::Local => format!("→ {address}: into the mailbox of {destination}"),
        pb::Transport::Smtp => format!("→ {address}: by SMTP to {destination}"),
        pb::Transport::Unspecified => format!("→ {address}: {destination}"),
    }
}
