use mail_types::{Domain, EmailAddress, Secret};

use sasl::ScramKeys;

use super::admin::AliasAdded;
use super::*;

fn credentials(tag: &str) -> Credentials {
    Credentials {
        argon2: Secret::new(tag.to_owned()),
        scram: ScramKeys {
            salt: vec![1, 2],
            iterations: 4096,
            stored_key: Secret::new([3; 32]),
            server_key: Secret::new([4; 32]),
        },
    }
}

fn address(text: &str) -> EmailAddress {
    text.parse().unwrap()
}

fn aula() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), 100).unwrap();
    store.add_domain(&"aula.test".parse().unwrap()).unwrap();
    (folder, store)
}

fn add(store: &Store, text: &str) -> u64 {
    store
        .add_account(&address(text), 0, &credentials("x"))
        .unwrap()
        .get()
}

fn alias(store: &Store, alias: &str, targets: &[&str]) -> Result<AliasAdded, ChangeError> {
    let targets: Vec<_> = targets.iter().map(|target| address(target)).collect();
    store.add_alias(&address(alias), &targets)
}

fn find(store: &Store, text: &str) -> Found {
    store.reader().unwrap().find(&address(text), None).unwrap()
}

fn reason<T: std::fmt::Debug>(result: Result<T, ChangeError>) -> (Refusal, String) {
    match result.unwrap_err() {
        ChangeError::Refused(refused) => (refused.reason, refused.detail),
        ChangeError::Store(error) => panic!("{error}"),
    }
}

#[test]
fn addresses_are_found_in_any_spelling() {
    let (_folder, store) = aula();
    add(&store, "Ana@aula.test");
    let Found::Account(account) = find(&store, "aNA@AULA.test") else {
        panic!()
    };
    assert_eq!(account.address, address("Ana@aula.test"));
    assert_eq!(find(&store, "lois@aula.test"), Found::NoSuchUser);
    assert_eq!(find(&store, "lois@example.org"), Found::NotLocal);
}

#[test]
fn ids_are_never_given_twice_and_changes_survive() {
    let (folder, store) = aula();
    assert_eq!(add(&store, "ana@aula.test"), 100);
    store.remove_account(&address("ana@aula.test")).unwrap();
    drop(store);
    let store = Store::open(folder.path(), 5).unwrap();
    assert_eq!(add(&store, "ana@aula.test"), 101);
    let reader = store.reader().unwrap();
    assert!(reader.credentials(100.into()).unwrap().is_none());
    let kept = reader.credentials(101.into()).unwrap().unwrap();
    assert_eq!(kept.scram.iterations, 4096);
}

#[test]
fn what_is_taken_is_refused() {
    let (_folder, store) = aula();
    add(&store, "ana@aula.test");
    alias(&store, "info@aula.test", &["ana@aula.test"]).unwrap();
    let domain: Domain = "aula.test".parse().unwrap();
    assert_eq!(reason(store.add_domain(&domain)).0, Refusal::AlreadyExists);
    let taken = store.add_account(&address("INFO@aula.test"), 0, &credentials("x"));
    assert_eq!(reason(taken).0, Refusal::AlreadyExists);
    let taken = alias(&store, "ana@aula.test", &["info@aula.test"]);
    assert_eq!(reason(taken).0, Refusal::AlreadyExists);
    assert_eq!(reason(store.remove_domain(&domain)).0, Refusal::NotEmpty);
    let (why, text) = reason(store.remove_account(&address("ana@aula.test")));
    assert_eq!(why, Refusal::InUse);
    assert!(text.contains("info@aula.test"), "{text}");
    let foreign = alias(&store, "a@example.org", &["ana@aula.test"]);
    assert_eq!(reason(foreign).0, Refusal::NoSuchDomain);
    let literal = store.add_domain(&"[127.0.0.1]".parse().unwrap());
    assert_eq!(reason(literal).0, Refusal::Invalid);
}

#[test]
fn an_emptied_domain_can_go() {
    let (_folder, store) = aula();
    add(&store, "ana@aula.test");
    alias(&store, "info@aula.test", &["ana@aula.test"]).unwrap();
    alias(&store, "web@aula.test", &["info@aula.test"]).unwrap();
    let left = store.remove_alias(&address("info@aula.test")).unwrap();
    assert_eq!(left, ["web@aula.test"]);
    assert!(
        store
            .remove_alias(&address("web@aula.test"))
            .unwrap()
            .is_empty()
    );
    store.remove_account(&address("ana@aula.test")).unwrap();
    store.remove_domain(&"aula.test".parse().unwrap()).unwrap();
    assert_eq!(find(&store, "ana@aula.test"), Found::NotLocal);
}

#[test]
fn circles_are_shown() {
    let (_folder, store) = aula();
    let own = alias(&store, "a@aula.test", &["A@aula.test"]);
    assert_eq!(
        reason(own).1,
        "mail to a@aula.test would come back to itself in a loop: a@aula.test → a@aula.test"
    );
    let added = alias(&store, "a@aula.test", &["b@aula.test", "x@example.org"]).unwrap();
    assert_eq!(added.missing, [address("b@aula.test")]);
    alias(&store, "b@aula.test", &["c@aula.test"]).unwrap();
    let (why, text) = reason(alias(
        &store,
        "c@aula.test",
        &["ana@aula.test", "a@aula.test"],
    ));
    assert_eq!(why, Refusal::Loop);
    assert!(
        text.ends_with("c@aula.test → a@aula.test → b@aula.test → c@aula.test"),
        "{text}"
    );
    assert_eq!(find(&store, "c@aula.test"), Found::NoSuchUser);
}

#[test]
fn sender_addresses_are_those_that_lead_to_one_alone() {
    let (_folder, store) = aula();
    add(&store, "ana@aula.test");
    add(&store, "lois@aula.test");
    alias(&store, "info@aula.test", &["ana@aula.test"]).unwrap();
    alias(&store, "web@aula.test", &["info@aula.test"]).unwrap();
    alias(
        &store,
        "all@aula.test",
        &["ana@aula.test", "lois@aula.test"],
    )
    .unwrap();
    let Found::Account(ana) = find(&store, "ana@aula.test") else {
        panic!()
    };
    let own = store.reader().unwrap().sender_addresses(&ana).unwrap();
    assert_eq!(own, [address("info@aula.test"), address("web@aula.test")]);
}

// Tests RFC 5321 §4.5.1: postmaster is taken at each domain.
#[test]
fn postmaster_leads_somewhere() {
    let (_folder, store) = aula();
    assert_eq!(find(&store, "postmaster@aula.test"), Found::NoSuchUser);
    add(&store, "zoe@aula.test");
    add(&store, "ana@aula.test");
    let to = |found| match found {
        Found::Alias { targets, .. } => targets,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        to(find(&store, "Postmaster@aula.test")),
        [address("zoe@aula.test")]
    );
    let ana = address("ana@aula.test");
    let reader = store.reader().unwrap();
    let found = reader
        .find(&address("postmaster@aula.test"), Some(&ana))
        .unwrap();
    assert_eq!(to(found), [ana]);
}

#[test]
fn lists_come_in_pages_and_by_domain() {
    let (_folder, store) = aula();
    store.add_domain(&"other.test".parse().unwrap()).unwrap();
    for n in 0..5 {
        add(&store, &format!("u{n}@aula.test"));
    }
    add(&store, "x@other.test");
    alias(&store, "info@aula.test", &["u1@aula.test"]).unwrap();
    let domain: Domain = "aula.test".parse().unwrap();
    assert_eq!(store.accounts(Some(&domain), "").unwrap().0.len(), 5);
    assert_eq!(store.accounts(None, "").unwrap().0.len(), 6);
    assert_eq!(
        store
            .accounts(Some(&domain), "aula.test\0u2")
            .unwrap()
            .0
            .len(),
        2
    );
    assert_eq!(store.aliases(None, "").unwrap().0.len(), 1);
    let rows = store.domains("").unwrap().0;
    assert_eq!(
        (rows[0].accounts, rows[0].aliases, rows[1].accounts),
        (5, 1, 1)
    );
    assert_eq!(store.domains("aula.test").unwrap().0.len(), 1);
}

#[test]
fn a_change_is_told() {
    let (_folder, store) = aula();
    let mut changes = store.changes();
    let before = *changes.borrow_and_update();
    add(&store, "ana@aula.test");
    assert!(changes.has_changed().unwrap());
    assert_eq!(*changes.borrow_and_update(), before + 1);
    store
        .add_account(&address("ana@aula.test"), 0, &credentials("x"))
        .unwrap_err();
    assert!(!changes.has_changed().unwrap());
}

#[test]
fn invented_salts_stay_the_same() {
    let (folder, store) = aula();
    let salt = |store: &Store, text| {
        store
            .reader()
            .unwrap()
            .invented_salt(&address(text))
            .unwrap()
    };
    let before = salt(&store, "nobody@aula.test");
    assert_eq!(before.len(), crate::password::SALT_LEN);
    assert_ne!(before, salt(&store, "other@aula.test"));
    drop(store);
    let store = Store::open(folder.path(), 1).unwrap();
    assert_eq!(before, salt(&store, "Nobody@aula.test"));
}
