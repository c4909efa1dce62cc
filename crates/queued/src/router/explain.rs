use mail_rpc::directory::Resolution;
use mail_types::{EmailAddress, EnhancedCode, Outcome};
use queue_store::Route;

use super::Router;

/// How an address is resolved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Explained {
    /// Each address that was looked at.
    pub steps: Vec<Step>,
    /// What it ends as.
    pub targets: Vec<Target>,
}

/// One address on the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// How many aliases led here.
    pub depth: usize,
    /// The address.
    pub address: EmailAddress,
    /// What it is and why.
    pub finding: String,
}

/// One end of the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The address.
    pub address: EmailAddress,
    /// Where it goes, or why it does not.
    pub route: Result<Route, Outcome>,
}

pub(super) async fn explain(router: &Router, address: &EmailAddress) -> Explained {
    let mut explained = Explained::default();
    let mut todo = vec![(address.clone(), Vec::new())];
    while let Some((address, path)) = todo.pop() {
        let depth = path.len();
        let found = look_at(router, &address, &path).await;
        let finding = match found {
            Found::Alias(targets, finding) => {
                let mut path = path;
                path.push(address.folded());
                let rest = targets.into_iter().rev();
                todo.extend(rest.map(|target| (target, path.clone())));
                finding
            }
            Found::End(route, finding) => {
                let address = address.clone();
                explained.targets.push(Target { address, route });
                finding
            }
        };
        explained.steps.push(Step {
            depth,
            address,
            finding,
        });
        if explained.steps.len() > router.settings().alias_width {
            break;
        }
    }
    explained
}

enum Found {
    Alias(Vec<EmailAddress>, String),
    End(Result<Route, Outcome>, String),
}

async fn look_at(router: &Router, address: &EmailAddress, path: &[String]) -> Found {
    let fail = |status, why: String| Found::End(Err(Outcome::local(status, why.clone())), why);
    if path.contains(&address.folded()) {
        let why = "it leads back to itself: mail for it is returned to the sender";
        return fail(EnhancedCode::ROUTING_LOOP, why.into());
    }
    match router.directory.resolve(address).await {
        Ok(Resolution::Account(account)) => {
            let finding = format!("a mailbox here: account {}", account.address);
            let route = Route::Local {
                account: account.id,
                quota_bytes: account.quota_bytes,
            };
            Found::End(Ok(route), finding)
        }
        Ok(Resolution::Alias(_)) if path.len() >= router.settings().alias_depth => {
            let why = "aliases lead to aliases too deep: mail for it is returned to the sender";
            fail(EnhancedCode::ROUTING_LOOP, why.into())
        }
        Ok(Resolution::Alias(targets)) => {
            let names: Vec<_> = targets.iter().map(ToString::to_string).collect();
            let finding = format!("an alias of {}", names.join(", "));
            Found::Alias(targets.to_vec(), finding)
        }
        Ok(Resolution::NoSuchUser) => fail(
            EnhancedCode::NO_SUCH_USER,
            "the domain is ours, but nobody has that name".into(),
        ),
        Ok(Resolution::NotLocal) => {
            let route = router.settings().routes.route(&address.domain);
            let finding = match &route {
                Route::SmartHost(host) => format!("not ours: goes to {host} by configuration"),
                _ => format!(
                    "not ours: goes to the mail exchangers of {}",
                    address.domain
                ),
            };
            Found::End(Ok(route), finding)
        }
        Err(reason) => fail(EnhancedCode::DIRECTORY_FAILURE, reason),
    }
}
