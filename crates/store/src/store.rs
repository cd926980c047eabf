use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use forebay_runtime::blocking;
use forebay_types::{Error, Result};
use rusqlite::{Connection, Transaction, TransactionBehavior};
use tokio::sync::{mpsc, oneshot};

use crate::connection::{open_reader, open_writer, sql};
use crate::migrations::migrate;

/// How many callers share one commit at most.
const BATCH_MAX: usize = 256;
/// How many writes may wait; a caller beyond that waits to hand its write in.
const QUEUE_MAX: usize = 4096;

/// One caller's write, from the queue to its answer.
trait Write: Send {
    /// Runs the caller's work; `false` when it refused and must be rolled back.
    fn apply(&mut self, tx: &Transaction<'_>) -> bool;
    /// Tells the caller how it went; a failure of the shared transaction comes before its own.
    fn answer(self: Box<Self>, failure: Option<Error>);
}

struct WriteOf<T, F> {
    work: Option<F>,
    outcome: Option<Result<T>>,
    reply: oneshot::Sender<Result<T>>,
}

impl<T, F> Write for WriteOf<T, F>
where
    T: Send,
    F: FnOnce(&Transaction<'_>) -> Result<T> + Send,
{
    fn apply(&mut self, tx: &Transaction<'_>) -> bool {
        let Some(work) = self.work.take() else {
            return false;
        };
        let outcome = catch_unwind(AssertUnwindSafe(|| work(tx))).unwrap_or_else(|_| {
            Err(Error::internal(
                "a store write panicked",
                "see the log above",
            ))
        });
        let keep = outcome.is_ok();
        self.outcome = Some(outcome);
        keep
    }

    fn answer(self: Box<Self>, failure: Option<Error>) {
        let never_ran = || {
            Err(Error::internal(
                "a store write was not reached",
                "see the log",
            ))
        };
        let answer = match failure {
            Some(error) => Err(error),
            None => self.outcome.unwrap_or_else(never_ran),
        };
        // A caller that went away does not need the answer.
        drop(self.reply.send(answer));
    }
}

/// The state of one workspace. Cheap to clone; the last clone's drop ends the writer thread and
/// waits for it, so that afterwards nobody touches the file.
#[derive(Clone)]
pub struct Store {
    // Dropped first, so that the writer's connection is the last and leaves one tidy file.
    readers: Arc<Readers>,
    writer: Arc<Writer>,
}

struct Writer {
    /// Taken when the last clone goes: the thread ends when it has done what was handed in.
    writes: Option<mpsc::Sender<Box<dyn Write>>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Drop for Writer {
    fn drop(&mut self) {
        drop(self.writes.take());
        if let Some(thread) = self.thread.take()
            // A write that held the last clone is dropped by the thread itself.
            && thread.thread().id() != std::thread::current().id()
            && thread.join().is_err()
        {
            tracing::error!("the store's writer panicked");
        }
    }
}

struct Readers {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store")
            .field("path", &self.readers.path)
            .finish()
    }
}

impl Store {
    /// Opens or creates the database at `path` and brings it to the newest form.
    ///
    /// # Errors
    /// When the file cannot be opened, or was written by a newer Forebay.
    pub fn open(path: &Path) -> Result<Self> {
        let mut conn = open_writer(path)?;
        migrate(&mut conn)?;
        let (writes, queue) = mpsc::channel(QUEUE_MAX);
        let thread = std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || write_loop(conn, queue))
            .map_err(|e| Error::internal("failed to start the store's writer", e))?;
        let readers = Readers {
            path: path.to_owned(),
            idle: Mutex::default(),
        };
        let writer = Writer {
            writes: Some(writes),
            thread: Some(thread),
        };
        Ok(Self {
            writer: Arc::new(writer),
            readers: Arc::new(readers),
        })
    }

    /// Runs `work` in a transaction and answers once it is durable.
    ///
    /// Many callers share one commit; a caller whose work fails is rolled back alone.
    ///
    /// # Errors
    /// What `work` returned, or why the commit failed; then nothing was changed.
    pub async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        let write = Box::new(WriteOf {
            work: Some(work),
            outcome: None,
            reply,
        });
        let gone = || Error::internal("the store has stopped", "its writer thread ended");
        let writes = self.writer.writes.as_ref().ok_or_else(gone)?;
        writes.send(write).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }

    /// Runs a query on a reader; it sees every write that was answered before.
    ///
    /// # Errors
    /// What `work` returned, or why no reader could be opened.
    pub async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let readers = Arc::clone(&self.readers);
        blocking(move || readers.with(work)).await
    }

    /// The same on the caller's own thread, for a few rows that an index finds: to hand such a read
    /// to another thread takes several times as long as the read.
    ///
    /// # Errors
    /// As [`Store::read`].
    pub(crate) fn glance<T>(&self, work: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        self.readers.with(work)
    }
}

impl Readers {
    fn with<T>(&self, work: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        let idle = self.lock().pop();
        let conn = match idle {
            Some(conn) => conn,
            None => open_reader(&self.path)?,
        };
        let result = work(&conn);
        self.lock().push(conn);
        result
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn write_loop(mut conn: Connection, mut queue: mpsc::Receiver<Box<dyn Write>>) {
    while let Some(first) = queue.blocking_recv() {
        let mut batch = vec![first];
        while batch.len() < BATCH_MAX
            && let Ok(next) = queue.try_recv()
        {
            batch.push(next);
        }
        commit(&mut conn, batch);
    }
}

/// Applies a batch in one transaction, each write behind a savepoint of its own. Everyone is
/// answered after the commit, because even a refusal may rest on what a neighbour wrote.
fn commit(conn: &mut Connection, mut batch: Vec<Box<dyn Write>>) {
    let failure = apply(conn, &mut batch).err();
    if let Some(error) = &failure {
        tracing::error!(error = ?error, "a store transaction failed");
    }
    for write in batch {
        // The cause went to the log above; the code tells each caller whether to try again.
        write.answer(
            failure
                .as_ref()
                .map(|error| Error::new(error.code, &error.message)),
        );
    }
}

fn apply(conn: &mut Connection, batch: &mut [Box<dyn Write>]) -> Result<()> {
    let tx = conn
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(|e| sql("begin", e))?;
    // Prepared once: these are executed more often than anything else.
    let execute = |text, doing| {
        let prepared = tx.prepare_cached(text);
        prepared
            .and_then(|mut statement| statement.execute([]))
            .map_err(|e| sql(doing, e))
    };
    for write in batch {
        execute("SAVEPOINT write", "begin a write")?;
        if !write.apply(&tx) {
            execute("ROLLBACK TO write", "undo a write")?;
        }
        execute("RELEASE write", "end a write")?;
    }
    tx.commit().map_err(|e| sql("commit", e))
}

/// The next id of the workspace's one number space.
///
/// # Errors
/// When the database refuses.
pub(crate) fn next_id(tx: &Transaction<'_>) -> Result<i64> {
    tx.prepare_cached("UPDATE sequence SET next = next + 1 RETURNING next - 1")
        .and_then(|mut statement| statement.query_row([], |row| row.get(0)))
        .map_err(|e| sql("take an id", e))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("forebay.db")).unwrap();
        (dir, store)
    }

    #[tokio::test]
    async fn a_failing_write_is_rolled_back_alone_and_its_neighbours_stay() {
        let (_dir, store) = open();
        let put = |key: &'static str, fail: bool| {
            store.write(move |tx| {
                tx.execute("INSERT INTO meta VALUES (?1, 'x')", [key])
                    .map_err(|e| sql("put", e))?;
                if fail {
                    Err(Error::invalid("no"))
                } else {
                    Ok(())
                }
            })
        };
        let (a, b, c) = tokio::join!(put("a", false), put("b", true), put("c", false));
        assert!(a.is_ok() && c.is_ok());
        assert_eq!(b.unwrap_err().message, "no");
        let keys = store
            .read(|conn| {
                let mut statement = conn.prepare("SELECT key FROM meta ORDER BY key").unwrap();
                let rows = statement
                    .query_map([], |row| row.get::<_, String>(0))
                    .unwrap();
                Ok(rows.map(Result::unwrap).collect::<Vec<_>>())
            })
            .await
            .unwrap();
        assert_eq!(keys, ["a", "c"]);
    }

    #[tokio::test]
    async fn a_panicking_write_fails_its_caller_and_the_store_goes_on() {
        let (_dir, store) = open();
        let panicked: Result<()> = store.write(|_| panic!("on purpose")).await;
        assert!(panicked.is_err());
        let first = store.write(next_id).await.unwrap();
        assert_eq!(store.write(next_id).await.unwrap(), first + 1);
    }

    #[tokio::test]
    async fn a_database_of_a_newer_program_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("forebay.db");
        Connection::open(&path)
            .unwrap()
            .pragma_update(None, "user_version", 9999)
            .unwrap();
        let error = Store::open(&path).unwrap_err();
        assert!(error.message.contains("newer Forebay"), "{error}");
    }
}
