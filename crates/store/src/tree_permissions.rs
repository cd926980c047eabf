//! Grants on objects of the workspace tree, by path.

use forebay_types::{
    Grant, ObjectKind, ObjectRef, PermissionLevel, Principal, Result, WorkspacePath,
};
use rusqlite::{Row, params};

use crate::connection::sql;
use crate::permissions::stored_level;
use crate::store::Store;

/// One grant, with the object it was given on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeGrant {
    pub path: WorkspacePath,
    pub object: ObjectRef,
    pub grant: Grant,
}

/// The part that both queries share; every kind of object has the same levels.
const SELECT: &str =
    "SELECT object.path, permission.kind, permission.object_id, permission.principal_kind,
        permission.principal, permission.level
     FROM permission JOIN object ON object.id = CAST(permission.object_id AS INTEGER)
     WHERE permission.kind IN ('directories', 'notebooks', 'files', 'repos')";

type Texts = [String; 6];

fn texts(row: &Row<'_>) -> rusqlite::Result<Texts> {
    Ok([
        row.get(0)?,
        row.get(1)?,
        row.get(2)?,
        row.get(3)?,
        row.get(4)?,
        row.get(5)?,
    ])
}

fn tree_grant([path, kind, id, principal_kind, principal, level]: Texts) -> Result<TreeGrant> {
    let kinds = ObjectKind::TREE.into_iter();
    let kind = kinds
        .into_iter()
        .find(|known| known.plural() == kind)
        .unwrap_or(ObjectKind::Directory);
    let principal = match principal_kind.as_str() {
        "group" => Principal::Group(principal),
        _ => Principal::User(principal),
    };
    let level = stored_level(kind, &level)?;
    Ok(TreeGrant {
        path: WorkspacePath::parse(&path)?,
        object: ObjectRef { kind, id },
        grant: Grant { principal, level },
    })
}

impl Store {
    /// What a user was given in the tree, of its own or through `group`, by path.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn tree_shares(
        &self,
        user: &str,
        group: &'static str,
    ) -> Result<Vec<(WorkspacePath, PermissionLevel)>> {
        let user = user.to_owned();
        let rows: Vec<Texts> = self
            .read(move |conn| {
                conn.prepare_cached(&format!(
                    "{SELECT} AND ((principal_kind = 'user' AND principal = ?1)
                       OR (principal_kind = 'group' AND principal = ?2)) ORDER BY object.path"
                ))
                .and_then(|mut statement| {
                    statement.query_map(params![user, group], texts)?.collect()
                })
                .map_err(|e| sql("read what is shared", e))
            })
            .await?;
        let shares = rows.into_iter().map(|row| {
            let found = tree_grant(row)?;
            Ok((found.path, found.grant.level))
        });
        shares.collect()
    }

    /// Every grant on `path` and on the folders above it, the outermost first.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn tree_grants(&self, path: &WorkspacePath) -> Result<Vec<TreeGrant>> {
        let mut way = vec![path.as_str().to_owned()];
        let mut above = path.parent();
        while let Some(folder) = above {
            way.push(folder.as_str().to_owned());
            above = folder.parent();
        }
        let way = serde_json::Value::from(way).to_string();
        let rows: Vec<Texts> = self
            .read(move |conn| {
                conn.prepare_cached(&format!(
                    "{SELECT} AND object.path IN (SELECT value FROM json_each(?1))
                     ORDER BY length(object.path), principal_kind DESC, principal"
                ))
                .and_then(|mut statement| statement.query_map([way], texts)?.collect())
                .map_err(|e| sql("read permissions", e))
            })
            .await?;
        rows.into_iter().map(tree_grant).collect()
    }
}

#[cfg(test)]
mod tests {
    use forebay_types::Millis;

    use super::*;

    #[tokio::test]
    async fn grants_are_found_by_path_and_go_with_their_object() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("forebay.db")).unwrap();
        let path = |text: &str| WorkspacePath::parse(text).unwrap();
        let seen = ["/a", "/a/b"].map(|text| (path(text), Millis(1)));
        let rows = store.object_rows(seen.to_vec()).await.unwrap();
        let grant = |principal: Principal, level| Grant { principal, level };
        let user = Principal::User("Bo@x".to_owned());
        for (row, given) in rows.iter().zip([
            grant(
                Principal::Group("users".to_owned()),
                PermissionLevel::CanRead,
            ),
            grant(user, PermissionLevel::CanEdit),
        ]) {
            let object = ObjectRef::new(ObjectKind::Directory, row.id);
            let change = |_| Ok(vec![given]);
            store.permission_update(&object, change).await.unwrap();
        }
        let shares = async |user: &str| store.tree_shares(user, "users").await.unwrap();
        let read = (path("/a"), PermissionLevel::CanRead);
        let edit = (path("/a/b"), PermissionLevel::CanEdit);
        assert_eq!(shares("bo@x").await, [read.clone(), edit]);
        assert_eq!(shares("al@x").await, [read]);
        let way = store.tree_grants(&path("/a/b/c")).await.unwrap();
        let way: Vec<_> = way.iter().map(|found| found.path.as_str()).collect();
        assert_eq!(way, ["/a", "/a/b"]);
        store.object_forget(&path("/a/b")).await.unwrap();
        assert_eq!(shares("bo@x").await.len(), 1);
        let gone = ObjectRef::new(ObjectKind::Directory, rows[1].id);
        assert!(store.permission_list(&gone).await.unwrap().is_empty());
    }
}
