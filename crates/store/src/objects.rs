use forebay_types::{Millis, ObjectId, Result, WorkspacePath};
use rusqlite::{Connection, OptionalExtension, params};

use crate::connection::sql;
use crate::store::{Store, next_id};

/// What is kept of an object of the workspace tree; everything else is read from its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ObjectRow {
    pub id: ObjectId,
    pub created_at: Millis,
}

fn object_get(conn: &Connection, path: &str) -> Result<Option<ObjectRow>> {
    conn.prepare_cached("SELECT id, created_at FROM object WHERE path = ?1")
        .and_then(|mut statement| {
            let row = statement.query_row([path], |row| {
                Ok(ObjectRow {
                    id: ObjectId(row.get(0)?),
                    created_at: Millis(row.get(1)?),
                })
            });
            row.optional()
        })
        .map_err(|e| sql("read an object", e))
}

impl Store {
    /// The rows of objects that exist, in the order given. An object seen for the first time gets
    /// an id, and is taken to be as old as the moment given with it.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn object_rows(
        &self,
        objects: Vec<(WorkspacePath, Millis)>,
    ) -> Result<Vec<ObjectRow>> {
        let (objects, known) = self
            .read(move |conn| {
                let known: Result<Vec<_>> = objects
                    .iter()
                    .map(|(path, _)| object_get(conn, path.as_str()))
                    .collect();
                known.map(|known| (objects, known))
            })
            .await?;
        if known.iter().all(Option::is_some) {
            return Ok(known.into_iter().flatten().collect());
        }
        self.write(move |tx| {
            let mut rows = Vec::with_capacity(objects.len());
            for (path, created_at) in &objects {
                if let Some(row) = object_get(tx, path.as_str())? {
                    rows.push(row);
                    continue;
                }
                let id = next_id(tx)?;
                tx.prepare_cached("INSERT INTO object (path, id, created_at) VALUES (?1, ?2, ?3)")
                    .and_then(|mut insert| insert.execute(params![path.as_str(), id, created_at.0]))
                    .map_err(|e| sql("name an object", e))?;
                rows.push(ObjectRow {
                    id: ObjectId(id),
                    created_at: *created_at,
                });
            }
            Ok(rows)
        })
        .await
    }

    /// The path of an object that was shown once.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn object_path(&self, id: ObjectId) -> Result<Option<WorkspacePath>> {
        let text: Option<String> = self
            .read(move |conn| {
                conn.prepare_cached("SELECT path FROM object WHERE id = ?1")
                    .and_then(|mut statement| {
                        statement.query_row([id.0], |row| row.get(0)).optional()
                    })
                    .map_err(|e| sql("find an object", e))
            })
            .await?;
        text.map(|text| WorkspacePath::parse(&text).map_err(Into::into))
            .transpose()
    }

    /// Forgets an object and everything below it; what is made there later gets new ids.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn object_forget(&self, path: &WorkspacePath) -> Result<()> {
        let (from, to) = below(path);
        let path = path.clone();
        self.write(move |tx| {
            tx.execute(
                "DELETE FROM object WHERE path = ?1 OR (path >= ?2 AND path < ?3)",
                params![path.as_str(), from, to],
            )
            .map_err(|e| sql("forget an object", e))?;
            Ok(())
        })
        .await
    }

    /// Lets an object and everything below it keep their ids under a new path.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn object_move(&self, path: &WorkspacePath, new: &WorkspacePath) -> Result<()> {
        let (from, to) = below(path);
        let (path, new) = (path.clone(), new.clone());
        self.write(move |tx| {
            // Rows left over at the new path belong to what is no longer there.
            let (new_from, new_to) = below(&new);
            tx.execute(
                "DELETE FROM object WHERE path = ?1 OR (path >= ?2 AND path < ?3)",
                params![new.as_str(), new_from, new_to],
            )
            .and_then(|_| {
                tx.execute(
                    "UPDATE object SET path = ?4 || substr(path, length(?1) + 1)
                     WHERE path = ?1 OR (path >= ?2 AND path < ?3)",
                    params![path.as_str(), from, to, new.as_str()],
                )
            })
            .map_err(|e| sql("move an object", e))?;
            Ok(())
        })
        .await
    }
}

/// The range of paths below a folder: `0` is the character after `/`.
pub(crate) fn below(path: &WorkspacePath) -> (String, String) {
    let folder = path.as_str().trim_end_matches('/');
    (format!("{folder}/"), format!("{folder}0"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> WorkspacePath {
        WorkspacePath::parse(text).unwrap()
    }

    async fn ids(store: &Store, paths: &[&str], at: i64) -> Vec<ObjectRow> {
        let objects = paths.iter().map(|text| (path(text), Millis(at))).collect();
        store.object_rows(objects).await.unwrap()
    }

    #[tokio::test]
    async fn ids_stay_until_forgotten_and_move_with_their_folder() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("forebay.db")).unwrap();
        let first = ids(&store, &["/a", "/a/x", "/a0"], 1).await;
        assert_eq!(
            ids(&store, &["/a0", "/a", "/b"], 2).await[..2],
            [first[2], first[0]]
        );
        assert_eq!(
            store.object_path(first[1].id).await.unwrap(),
            Some(path("/a/x"))
        );

        store.object_move(&path("/a"), &path("/b")).await.unwrap();
        assert_eq!(ids(&store, &["/b", "/b/x"], 3).await, first[..2]);
        store.object_forget(&path("/b")).await.unwrap();
        let again = ids(&store, &["/b", "/b/x", "/a0"], 4).await;
        assert_eq!(again[2], first[2]);
        assert!(again[..2].iter().all(|row| row.created_at == Millis(4)));
        assert_eq!(store.object_path(first[1].id).await.unwrap(), None);
    }

    #[tokio::test]
    async fn many_that_see_an_object_first_agree_on_its_id() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("forebay.db")).unwrap();
        let (a, b, c) = tokio::join!(
            ids(&store, &["/x"], 1),
            ids(&store, &["/x"], 2),
            ids(&store, &["/x"], 3)
        );
        assert!(a == b && b == c);
    }
}
