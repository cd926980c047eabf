use forebay_testkit::TestServer;
use serde_json::{Value, json};

const USERS: &str = "/api/2.0/preview/scim/v2/Users";
const ME: &str = "/api/2.0/preview/scim/v2/Me";

async fn add(server: &TestServer, name: &str) -> String {
    let made = server
        .post(USERS, json!({"userName": name, "displayName": "Ann"}))
        .await;
    assert_eq!(made.status.as_u16(), 201, "{}", made.text());
    made.json()["id"].as_str().unwrap().to_owned()
}

async fn token_for(server: &TestServer, name: &str, body: Value) -> forebay_testkit::Answer {
    server
        .post(&format!("/api/forebay/v1/users/{name}/tokens"), body)
        .await
}

#[tokio::test]
async fn user_comes_gets_a_token_is_switched_off_and_goes() {
    let server = TestServer::start().await;
    let id = add(&server, "ann@example.com").await;
    let again = server
        .post(USERS, json!({"userName": "ANN@example.com"}))
        .await;
    again.refused(409, "ALREADY_EXISTS");
    let made = token_for(&server, "ann@example.com", json!({"comment": "ci"}))
        .await
        .ok();
    let token = made["token_value"].as_str().unwrap();
    let me = async || server.call(token, "GET", ME, json!(null)).await;
    let shown = me().await.ok();
    assert_eq!(
        (&shown["userName"], &shown["displayName"]),
        (&json!("ann@example.com"), &json!("Ann"))
    );
    let one = format!("{USERS}/{id}");
    let patch = async |operations: Value| {
        let body = json!({"Operations": operations});
        server.call(&server.admin, "PATCH", &one, body).await
    };
    patch(json!([{"op": "replace", "path": "active"}]))
        .await
        .ok();
    me().await.refused(401, "UNAUTHENTICATED");
    patch(json!([{"op": "Replace", "value": {"active": "true", "displayName": "A."}}]))
        .await
        .ok();
    assert_eq!(me().await.ok()["displayName"], "A.");
    patch(json!([{"op": "add", "path": "groups", "value": [{"value": "1"}]}]))
        .await
        .ok();
    assert_eq!(me().await.ok()["groups"][0]["display"], "admins");
    patch(json!([{"op": "remove", "path": "groups[value eq \"1\"]"}]))
        .await
        .ok();
    assert_eq!(me().await.ok()["groups"].as_array().unwrap().len(), 1);
    patch(json!([{"op": "add", "path": "roles", "value": []}]))
        .await
        .refused(501, "NOT_IMPLEMENTED");

    let gone = server
        .call(&server.admin, "DELETE", &one, json!(null))
        .await;
    assert_eq!(gone.status.as_u16(), 204);
    me().await.refused(401, "UNAUTHENTICATED");
    server
        .get(&one)
        .await
        .refused(404, "RESOURCE_DOES_NOT_EXIST");
    assert_eq!(
        add(&server, "ann@example.com").await,
        id,
        "what Ann made still names her"
    );
    me().await.refused(401, "UNAUTHENTICATED");
}

#[tokio::test]
async fn lists_are_filtered_and_paged() {
    let server = TestServer::start().await;
    for name in ["b@x.org", "c@x.org"] {
        add(&server, name).await;
    }
    let names = async |query: &str| {
        let list = server.get(&format!("{USERS}?{query}")).await.ok();
        let names = list["Resources"].as_array().unwrap().iter();
        let names: Vec<_> = names
            .map(|user| user["userName"].as_str().unwrap().to_owned())
            .collect();
        (names.join(" "), list["totalResults"].as_u64().unwrap())
    };
    assert_eq!(
        names("filter=userName+eq+%22B@X.org%22").await,
        ("b@x.org".to_owned(), 1)
    );
    assert_eq!(
        names("filter=userName+co+x.org&count=1&startIndex=2").await,
        ("c@x.org".to_owned(), 2)
    );
    assert_eq!(names("startIndex=99").await, (String::new(), 4));
    let wrong = server.get(&format!("{USERS}?filter=userName")).await;
    assert!(
        wrong
            .refused(400, "INVALID_PARAMETER_VALUE")
            .contains("filter")
    );
    let other = server.get(&format!("{USERS}?filter=emails+eq+x")).await;
    assert!(other.refused(501, "NOT_IMPLEMENTED").contains("emails"));
    let groups = "/api/2.0/preview/scim/v2/Groups?filter=displayName+eq+admins";
    let list = server.get(groups).await.ok();
    assert_eq!(list["Resources"][0]["members"][0]["display"], "admin");
    let write = server
        .post(
            "/api/2.0/preview/scim/v2/Groups",
            json!({"displayName": "x"}),
        )
        .await;
    write.refused(501, "NOT_IMPLEMENTED");
}

#[tokio::test]
async fn plain_user_reads_and_changes_nothing() {
    let server = TestServer::start().await;
    let as_plain = async |method: &str, path: &str, body: Value| {
        server.call(&server.plain, method, path, body).await
    };
    let list = as_plain("GET", USERS, json!(null)).await.ok();
    let id = list["Resources"][0]["id"].as_str().unwrap().to_owned();
    let one = format!("{USERS}/{id}");
    for (method, path) in [
        ("POST", USERS),
        ("PUT", &*one),
        ("PATCH", &*one),
        ("DELETE", &*one),
    ] {
        as_plain(method, path, json!({"userName": "x"}))
            .await
            .refused(403, "PERMISSION_DENIED");
    }
    let tokens = "/api/forebay/v1/users/admin/tokens";
    as_plain("POST", tokens, json!({}))
        .await
        .refused(403, "PERMISSION_DENIED");
    as_plain("GET", "/api/2.0/token-management/tokens", json!(null))
        .await
        .refused(403, "PERMISSION_DENIED");
}

#[tokio::test]
async fn first_administrator_cannot_be_locked_out_and_names_cannot_climb() {
    let server = TestServer::start().await;
    let me = server.get(ME).await.ok();
    let one = format!("{USERS}/{}", me["id"].as_str().unwrap());
    let off = json!({"Operations": [{"op": "replace", "path": "active", "value": false}]});
    server
        .call(&server.admin, "PATCH", &one, off)
        .await
        .refused(400, "INVALID_PARAMETER_VALUE");
    server
        .call(&server.admin, "DELETE", &one, json!(null))
        .await
        .refused(400, "INVALID_PARAMETER_VALUE");
    let plain = json!({"groups": [{"value": "2"}]});
    server
        .call(&server.admin, "PUT", &one, plain)
        .await
        .refused(400, "INVALID_PARAMETER_VALUE");
    for name in ["", "..", "a/b", "../x", "a b", "a\n"] {
        let made = server.post(USERS, json!({"userName": name})).await;
        assert!(
            made.refused(400, "INVALID_PARAMETER_VALUE")
                .contains("userName"),
            "{name:?}"
        );
    }
    let rename = server
        .call(&server.admin, "PUT", &one, json!({"userName": "other"}))
        .await;
    assert!(
        rename
            .refused(400, "INVALID_PARAMETER_VALUE")
            .contains("userName")
    );
}

#[tokio::test]
async fn administrators_manage_everybodys_tokens() {
    let server = TestServer::start().await;
    token_for(&server, "new@x.org", json!({}))
        .await
        .refused(404, "RESOURCE_DOES_NOT_EXIST");
    let made = token_for(
        &server,
        "new@x.org",
        json!({"create_user": true, "lifetime_seconds": 60}),
    )
    .await
    .ok();
    let id = made["token_info"]["token_id"].as_str().unwrap();
    let list = "/api/2.0/token-management/tokens?created_by_username=new@x.org";
    let infos = server.get(list).await.ok();
    assert_eq!(infos["token_infos"][0]["token_id"], id);
    assert!(infos["token_infos"].as_array().unwrap().len() == 1);
    let token = made["token_value"].as_str().unwrap();
    let update = json!({"token": {"comment": "renamed"}, "update_mask": "comment"});
    let path = format!("/api/2.0/token/{id}");
    server
        .call(token, "PATCH", &path, update.clone())
        .await
        .ok();
    server
        .call(&server.plain, "PATCH", &path, update)
        .await
        .refused(404, "RESOURCE_DOES_NOT_EXIST");
    let scopes = json!({"token": {}, "update_mask": "scopes"});
    server
        .call(token, "PATCH", &path, scopes)
        .await
        .refused(501, "NOT_IMPLEMENTED");
    let managed = format!("/api/2.0/token-management/tokens/{id}");
    assert_eq!(
        server.get(&managed).await.ok()["token_info"]["comment"],
        "renamed"
    );
    server
        .call(&server.admin, "DELETE", &managed, json!(null))
        .await
        .ok();
    server
        .call(token, "GET", ME, json!(null))
        .await
        .refused(401, "UNAUTHENTICATED");
}
