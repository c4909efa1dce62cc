use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use mail_rpc::directory::{Account, Resolution};
use mail_types::{EmailAddress, EnhancedCode, QueueId, ReversePath};
use queue_store::{
    BodyType, DsnReturn, Envelope, Message, Notify, Origin, Progress, Recipient, Route,
};

use super::{Resolve, Router};
use crate::routes::RouteTable;
use crate::settings::Settings;

/// Aliases by name; `*@local` are accounts, `no@local` is nobody, `?@local` cannot be told.
#[derive(Default)]
struct Names(HashMap<String, Vec<EmailAddress>>);

impl Resolve for Names {
    fn resolve<'a>(
        &'a self,
        address: &'a EmailAddress,
    ) -> Pin<Box<dyn Future<Output = Result<Resolution, String>> + Send + 'a>> {
        let folded = address.folded();
        let answer = match (self.0.get(&folded), folded.as_str()) {
            (Some(targets), _) => Ok(Resolution::Alias(targets.clone().into())),
            (None, "no@local") => Ok(Resolution::NoSuchUser),
            (None, "?@local") => Err("out for lunch".to_owned()),
            (None, name) if name.ends_with("@local") => Ok(Resolution::Account(Account {
                id: u64::from(folded.as_bytes()[0]).into(),
                address: address.clone(),
                quota_bytes: 0,
            })),
            _ => Ok(Resolution::NotLocal),
        };
        Box::pin(async { answer })
    }
}

fn router(aliases: &[(&str, &[&str])]) -> Router {
    let mut names = Names::default();
    for (alias, targets) in aliases {
        let targets = targets.iter().map(|target| target.parse().unwrap());
        names.0.insert((*alias).to_owned(), targets.collect());
    }
    let settings = Settings {
        hostname: "mx.local".parse().unwrap(),
        retry_min: Duration::ZERO,
        retry_max: Duration::ZERO,
        lifetime: Duration::ZERO,
        min_attempts: 0,
        delay_warning: Duration::ZERO,
        destination_limit: 1,
        local_limit: 1,
        task_recipients: 1,
        routing_limit: 1,
        memory: 0,
        incoming_memory: 0,
        stream_window: 1,
        max_recipients: 1,
        alias_depth: 3,
        alias_width: 6,
        report_content: 0,
        postmaster: None,
        routes: RouteTable::default(),
    };
    let settings = Arc::new(ArcSwap::from_pointee(settings));
    Router::new(Arc::new(names), settings)
}

fn message(to: &[&str]) -> Message {
    let recipients = to.iter().map(|address| {
        let address = address.parse().unwrap();
        Recipient::new(address, None, Notify::Default)
    });
    Message {
        id: QueueId::from(1),
        envelope: Envelope {
            reverse_path: ReversePath::Null,
            origin: Origin::default(),
            smtputf8: false,
            body: BodyType::Unspecified,
            envelope_id: None,
            dsn_return: DsnReturn::Unspecified,
            session_id: String::new(),
        },
        size: 0,
        accepted_at: 0,
        held: false,
        recipients: recipients.collect(),
    }
}

/// Address and what became of it, a word each.
fn outcome(message: &Message) -> Vec<String> {
    let recipients = message.recipients.iter().map(|recipient| {
        let what = match (&recipient.progress, &recipient.last) {
            (Progress::Waiting(Route::Local { .. }), _) => "mailbox".to_owned(),
            (Progress::Waiting(Route::Domain(domain)), _) => format!("mx:{domain}"),
            (Progress::Unrouted, last) => {
                format!(
                    "unrouted:{}",
                    last.as_ref().map_or(EnhancedCode::OK, |l| l.status)
                )
            }
            (_, Some(last)) => format!("{:?}:{}", last.action, last.status),
            other => panic!("{other:?}"),
        };
        format!("{} {what}", recipient.address)
    });
    recipients.collect()
}

async fn routed(router: &Router, mut message: Message) -> Message {
    let resolved = router.resolve(&message).await;
    resolved.apply(&mut message, 0);
    message
}

#[tokio::test]
async fn each_address_finds_its_way() {
    let to = ["ana@local", "no@local", "?@local", "x@remote.test"];
    let message = routed(&router(&[]), message(&to)).await;
    assert_eq!(
        outcome(&message),
        [
            "ana@local mailbox",
            "no@local Failed:5.1.1",
            "?@local unrouted:4.4.3",
            "x@remote.test mx:remote.test",
        ]
    );
}

#[tokio::test]
async fn one_mailbox_gets_it_once() {
    let router = router(&[
        ("a@local", &["bob@local"]),
        ("c@local", &["BOB@local", "dan@local"]),
    ]);
    let mut message = message(&["a@local", "c@local", "bob@local", "x@r.test", "X@R.test"]);
    message.recipients[2].notify = Notify::Never;
    message.recipients[1].notify = Notify::On {
        success: true,
        failure: false,
        delay: false,
    };
    let message = routed(&router, message).await;
    assert_eq!(
        outcome(&message),
        [
            "a@local Expanded:2.0.0",
            "c@local Expanded:2.0.0",
            "bob@local Expanded:2.0.0",
            "x@r.test mx:r.test",
            "X@r.test Expanded:2.0.0",
            "bob@local mailbox",
            "BOB@local Expanded:2.0.0",
            "dan@local mailbox",
        ]
    );
    let bob = &message.recipients[5];
    assert!(
        bob.notify.success() && bob.notify.failure(),
        "all that was asked for"
    );
    assert_eq!(bob.original.as_deref(), Some("rfc822;a@local"));
    assert_eq!(
        (bob.parent, message.recipients[7].parent),
        (Some(0), Some(1))
    );
}

#[tokio::test]
async fn circles_depth_and_width_have_their_limits() {
    let circle = router(&[("a@local", &["b@local"]), ("b@local", &["A@local"])]);
    let message_a = routed(&circle, message(&["a@local"])).await;
    assert_eq!(outcome(&message_a)[2], "A@local Failed:5.4.6");

    let deep = router(&[
        ("a@local", &["b@local"]),
        ("b@local", &["c@local"]),
        ("c@local", &["d@local"]),
        ("d@local", &["e@local"]),
    ]);
    let message_a = routed(&deep, message(&["a@local"])).await;
    assert_eq!(outcome(&message_a)[3], "d@local Failed:5.4.6");

    let wide = ["1@local", "2@local", "3@local", "4@local"];
    let wide = router(&[("a@local", &wide), ("b@local", &wide)]);
    let message_ab = routed(&wide, message(&["a@local", "b@local"])).await;
    let outcome = outcome(&message_ab);
    assert_eq!(outcome[0], "a@local Expanded:2.0.0");
    assert_eq!(outcome[1], "b@local Failed:5.5.3");
    assert_eq!(outcome.len(), 6);
}

#[tokio::test]
async fn a_second_run_goes_on_where_the_first_one_was() {
    let before = router(&[("a@local", &["?@local", "bob@local"])]);
    let message = routed(&before, message(&["a@local"])).await;
    assert_eq!(outcome(&message)[1], "?@local unrouted:4.4.3");
    let after = router(&[("?@local", &["bob@local", "a@local", "eve@local"])]);
    let message = routed(&after, message).await;
    assert_eq!(
        outcome(&message),
        [
            "a@local Expanded:2.0.0",
            "?@local Expanded:2.0.0",
            "bob@local mailbox",
            "bob@local Expanded:2.0.0",
            "a@local Failed:5.4.6",
            "eve@local mailbox",
        ]
    );
}

#[tokio::test]
async fn original_recipients_are_written_as_rfc_3461_wants() {
    let router = router(&[("a+b=c@local", &["bob@local"])]);
    let message = routed(&router, message(&["a+b=c@local"])).await;
    let original = message.recipients[1].original.as_deref();
    assert_eq!(original, Some("rfc822;a+2Bb+3Dc@local"));
}
