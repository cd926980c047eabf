use forebay_testkit::{Answer, PLAIN_USER, TestServer};
use serde_json::{Value, json};

async fn new_cluster(server: &TestServer) -> String {
    let body = json!({"spark_version": "15.4.x-scala2.12", "cluster_id": "c-1"});
    let made = server.post("/api/2.0/clusters/create", body).await.ok();
    format!(
        "/api/2.0/permissions/clusters/{}",
        made["cluster_id"].as_str().unwrap()
    )
}

async fn change(server: &TestServer, method: &str, path: &str, list: Value) -> Answer {
    let body = json!({"access_control_list": list});
    server.call(&server.admin, method, path, body).await
}

#[tokio::test]
async fn permissions_are_shown_with_what_administrators_inherit() {
    let server = TestServer::start().await;
    let path = new_cluster(&server).await;
    let list = json!([{"user_name": PLAIN_USER, "permission_level": "CAN_RESTART"},
        {"group_name": "users", "permission_level": "CAN_ATTACH_TO"}]);
    let changed = change(&server, "PUT", &path, list).await.ok();
    let expected = json!({
        "object_id": "/clusters/c-1", "object_type": "cluster",
        "access_control_list": [
            {"user_name": PLAIN_USER, "display_name": PLAIN_USER,
             "all_permissions": [{"permission_level": "CAN_RESTART", "inherited": false}]},
            {"group_name": "users",
             "all_permissions": [{"permission_level": "CAN_ATTACH_TO", "inherited": false}]},
            {"group_name": "admins", "all_permissions": [
                {"permission_level": "CAN_MANAGE", "inherited": true, "inherited_from_object": ["/clusters/"]}]},
        ]
    });
    assert_eq!(changed, expected);
    assert_eq!(server.get(&path).await.ok(), expected);
    let levels = server.get(&format!("{path}/permissionLevels")).await.ok();
    let levels = levels["permission_levels"].as_array().unwrap().iter();
    let levels: Vec<_> = levels.map(|level| &level["permission_level"]).collect();
    assert_eq!(levels, ["CAN_ATTACH_TO", "CAN_RESTART", "CAN_MANAGE"]);
}

#[tokio::test]
async fn wrong_levels_principals_and_objects_are_named() {
    let server = TestServer::start().await;
    let path = new_cluster(&server).await;
    let one = |principal: &str, name: &str, level: &str| json!([{principal: name, "permission_level": level}]);
    let cases = [
        (
            one("user_name", PLAIN_USER, "IS_OWNER"),
            400,
            "INVALID_PARAMETER_VALUE",
            "IS_OWNER",
        ),
        (
            one("user_name", "ghost", "CAN_MANAGE"),
            404,
            "RESOURCE_DOES_NOT_EXIST",
            "ghost",
        ),
        (
            one("group_name", "ghosts", "CAN_MANAGE"),
            404,
            "RESOURCE_DOES_NOT_EXIST",
            "ghosts",
        ),
        (
            one("service_principal_name", "x", "CAN_MANAGE"),
            501,
            "NOT_IMPLEMENTED",
            "service_principal_name",
        ),
        (
            one("group_name", "admins", "CAN_RESTART"),
            400,
            "INVALID_PARAMETER_VALUE",
            "admins",
        ),
        (
            json!([{"permission_level": "CAN_MANAGE"}]),
            400,
            "INVALID_PARAMETER_VALUE",
            "user_name",
        ),
    ];
    for (list, status, code, word) in cases {
        let message = change(&server, "PATCH", &path, list)
            .await
            .refused(status, code);
        assert!(message.contains(word), "{word}: {message}");
    }
    let missing = server.get("/api/2.0/permissions/clusters/none").await;
    assert!(
        missing
            .refused(404, "RESOURCE_DOES_NOT_EXIST")
            .contains("none")
    );
    for path in ["1", "1/permissionLevels"] {
        let path = format!("/api/2.0/permissions/pipelines/{path}");
        let refused = server.get(&path).await.refused(501, "NOT_IMPLEMENTED");
        assert!(refused.contains("pipelines"), "{refused}");
    }
}

#[tokio::test]
async fn only_who_may_manage_changes_permissions() {
    let server = TestServer::start().await;
    let path = new_cluster(&server).await;
    let body = json!({"access_control_list": [{"user_name": PLAIN_USER, "permission_level": "CAN_MANAGE"}]});
    let plain = async |method: &str| {
        server
            .call(&server.plain, method, &path, body.clone())
            .await
    };
    plain("PATCH").await.refused(403, "PERMISSION_DENIED");
    plain("GET").await.refused(403, "PERMISSION_DENIED");
    change(
        &server,
        "PATCH",
        &path,
        json!([{"group_name": "users", "permission_level": "CAN_ATTACH_TO"}]),
    )
    .await
    .ok();
    plain("GET").await.ok();
    plain("PATCH").await.refused(403, "PERMISSION_DENIED");
    change(&server, "PATCH", &path, body["access_control_list"].clone())
        .await
        .ok();
    plain("PATCH").await.ok();
}
