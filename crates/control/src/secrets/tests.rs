use forebay_types::{ErrorCode, Millis};

use super::*;

struct World {
    _dir: tempfile::TempDir,
    store: Store,
    secrets: Secrets,
    admin: Ctx,
    ann: Ctx,
    bob: Ctx,
}

async fn world() -> World {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("forebay.db")).unwrap();
    let vault = Vault::open(dir.path(), &store).await.unwrap();
    let clock = Clock::manual(Millis(1_000));
    let mut ctxs = Vec::new();
    for (name, admin) in [("root", true), ("ann@x.org", false), ("bob@x.org", false)] {
        ctxs.push(Ctx::new(
            store.user_create(name, admin, Millis(0)).await.unwrap(),
        ));
    }
    let [admin, ann, bob] = <[Ctx; 3]>::try_from(ctxs).unwrap();
    World {
        _dir: dir,
        secrets: Secrets::new(store.clone(), clock, vault),
        store,
        admin,
        ann,
        bob,
    }
}

fn code<T: std::fmt::Debug>(result: Result<T>) -> ErrorCode {
    result.unwrap_err().code
}

#[tokio::test]
async fn each_permission_allows_its_calls_and_no_others() {
    let World {
        secrets, ann, bob, ..
    } = world().await;
    secrets.scope_create(&ann, "team", false).await.unwrap();
    secrets.put(&ann, "team", "k", b"v1").await.unwrap();
    let denied = ErrorCode::PermissionDenied;
    assert_eq!(code(secrets.get(&bob, "team", "k").await), denied);
    assert_eq!(secrets.scope_list(&bob).await.unwrap(), []);

    let grant = async |level| {
        secrets
            .acl_put(&ann, "team", "BOB@x.org", level)
            .await
            .unwrap()
    };
    grant("READ").await;
    assert_eq!(secrets.get(&bob, "team", "k").await.unwrap().1, b"v1");
    assert_eq!(secrets.list(&bob, "team").await.unwrap().len(), 1);
    assert_eq!(secrets.scope_list(&bob).await.unwrap().len(), 1);
    assert_eq!(code(secrets.put(&bob, "team", "k", b"v2").await), denied);
    assert_eq!(code(secrets.delete(&bob, "team", "k").await), denied);
    assert_eq!(code(secrets.acl_list(&bob, "team").await), denied);

    grant("WRITE").await;
    secrets.put(&bob, "team", "k", b"v2").await.unwrap();
    assert_eq!(code(secrets.scope_delete(&bob, "team").await), denied);
    assert_eq!(
        code(secrets.acl_put(&bob, "team", "users", "READ").await),
        denied
    );

    grant("MANAGE").await;
    secrets.acl_delete(&bob, "team", "ann@x.org").await.unwrap();
    assert_eq!(code(secrets.get(&ann, "team", "k").await), denied);
    secrets.scope_delete(&bob, "team").await.unwrap();
    let missing = ErrorCode::ResourceDoesNotExist;
    assert_eq!(code(secrets.list(&bob, "team").await), missing);
}

#[tokio::test]
async fn groups_count_and_administrators_manage_everything() {
    let World {
        secrets,
        admin,
        ann,
        bob,
        ..
    } = world().await;
    secrets.scope_create(&ann, "open", true).await.unwrap();
    secrets.put(&bob, "open", "k", b"v").await.unwrap();
    let acls = secrets.acl_list(&bob, "open").await.unwrap();
    assert_eq!(acls.len(), 1);
    assert_eq!(acls[0].principal, "users");

    secrets.scope_create(&ann, "closed", false).await.unwrap();
    secrets.put(&admin, "closed", "k", b"v").await.unwrap();
    assert_eq!(secrets.scope_list(&admin).await.unwrap().len(), 2);
    let unknown = secrets.acl_put(&ann, "closed", "nobody", "READ").await;
    assert_eq!(code(unknown), ErrorCode::InvalidParameterValue);
    secrets
        .acl_put(&ann, "closed", "admins", "READ")
        .await
        .unwrap();
    let admins = secrets.acl_get(&ann, "closed", "admins").await.unwrap();
    assert_eq!(admins.permission, SecretPermission::Read);
    assert_eq!(
        code(secrets.acl_get(&ann, "closed", "bob@x.org").await),
        ErrorCode::ResourceDoesNotExist
    );
}

#[tokio::test]
async fn names_are_compared_without_case_and_keep_their_first_spelling() {
    let World { secrets, ann, .. } = world().await;
    secrets.scope_create(&ann, "Team", false).await.unwrap();
    let taken = secrets.scope_create(&ann, "team", false).await;
    assert_eq!(code(taken), ErrorCode::ResourceAlreadyExists);
    secrets.put(&ann, "TEAM", "Key", b"1").await.unwrap();
    secrets.put(&ann, "team", "KEY", b"2").await.unwrap();
    assert_eq!(
        secrets.get(&ann, "team", "key").await.unwrap(),
        ("Key".to_owned(), b"2".to_vec())
    );
    assert_eq!(secrets.list(&ann, "team").await.unwrap().len(), 1);
}

#[tokio::test]
async fn limits_are_named() {
    let World { secrets, ann, .. } = world().await;
    for bad in ["", "a b", "a/b", "ü", &"x".repeat(129)] {
        let refused = secrets.scope_create(&ann, bad, false).await;
        assert_eq!(code(refused), ErrorCode::InvalidParameterValue, "{bad}");
    }
    secrets.scope_create(&ann, "s", false).await.unwrap();
    secrets.put(&ann, "s", "k", &[b'x'; 131_072]).await.unwrap();
    let long = secrets
        .put(&ann, "s", "k", &[b'x'; 131_073])
        .await
        .unwrap_err();
    assert!(long.message.contains("131073 bytes"), "{long}");
    for n in 1..1000 {
        secrets
            .put(&ann, "s", &format!("k{n}"), b"v")
            .await
            .unwrap();
    }
    let full = secrets.put(&ann, "s", "one-more", b"v").await;
    assert_eq!(code(full), ErrorCode::ResourceLimitExceeded);
    secrets.put(&ann, "s", "k999", b"replaced").await.unwrap();
}

#[tokio::test]
async fn a_row_moved_to_another_key_does_not_open() {
    let World {
        secrets,
        store,
        ann,
        ..
    } = world().await;
    secrets.scope_create(&ann, "s", false).await.unwrap();
    secrets.put(&ann, "s", "a", b"value of a").await.unwrap();
    let (scope, _) = store.secret_scope_get("s").await.unwrap();
    let stolen = store.secret_get(scope.clone(), "a").await.unwrap();
    assert!(!stolen.sealed.windows(5).any(|part| part == b"value"));
    let moved = SealedSecret {
        key: "b".to_owned(),
        ..stolen
    };
    store.secret_put(scope, moved, Millis(0)).await.unwrap();
    assert_eq!(code(secrets.get(&ann, "s", "b").await), ErrorCode::Internal);
}
