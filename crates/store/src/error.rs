//! What can go wrong with a store, in words that say what to do. No text holds the content of a row, or a password.

use std::path::PathBuf;

/// An error of the store.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// `store.url` names nothing that can be opened.
    #[error("store.url: {0}")]
    Url(String),
    /// The file cannot be opened or created.
    #[error("cannot open the store `{}`: {problem}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What is wrong and what to do.
        problem: String,
    },
    /// There is no store in this place, and a gateway alone makes one. Nothing was created.
    #[error(
        "there is no store there; start the gateway once, check store.url, or restore one with `registrar store rebuild \
         --from BACKUP`"
    )]
    Missing,
    /// The file is not a store that this version can use; it was not changed.
    #[error("the store cannot be used by this version: {0}")]
    Incompatible(String),
    /// What is stored cannot be read back.
    #[error("the store is damaged: {0}; stop the gateway, then `registrar store rebuild --from BACKUP`")]
    Corrupt(String),
    /// The store does not work at the moment. Of a write it must be assumed that it may have been recorded, but where the
    /// [`Trouble`] says that nothing was sent.
    #[error("the store is not available: {0}")]
    Unavailable(Trouble),
    /// The registration was changed in the meantime; read it again and decide anew.
    #[error("the registration was changed in the meantime")]
    VersionConflict,
    /// There is one with this id or name.
    #[error("it exists already")]
    AlreadyExists,
    /// There is none with this id.
    #[error("there is no such {0}")]
    NotFound(&'static str),
    /// The operation has succeeded or failed already; a result is recorded once.
    #[error("the operation has been finished already")]
    AlreadyFinished,
    /// Another process has taken the operation over since: its result counts, not this one.
    #[error("another process has taken the operation over")]
    Superseded,
    /// Not a cursor of this list.
    #[error("not a cursor of this list; start again without one")]
    BadCursor,
    /// [`close`](crate::Store::close) was called.
    #[error("the store is closed")]
    Closed,
}

/// Why a store does not work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// No space is left.
    #[error("the disk is full; free some space")]
    Full,
    /// Reading or writing failed.
    #[error("an input/output error (SQLite code {code}); check the disk, then restart the gateway")]
    Io {
        /// SQLite's extended result code.
        code: i32,
    },
    /// The file or its folder cannot be written, or the server is a standby.
    #[error(
        "the database is read-only, or was moved; check the file's and the folder's permissions, or name the primary \
         server"
    )]
    ReadOnly,
    /// Another process holds the write lock.
    #[error("the database is locked by another process; end it or wait for it")]
    Locked,
    /// An earlier failure made it unsafe to write; reads still work.
    #[error("writing was stopped after a failure of the disk (see the log); check the disk, then restart the gateway")]
    Stopped,
    /// The name of the database leads to another file, or to none: what is written may be gone.
    #[error(
        "the database file is not where it was opened: it, its log or its folder was deleted, moved or replaced; put it \
         back, then restart the gateway"
    )]
    Moved,
    /// The connection to the server was lost, with what was sent by it.
    #[error("the connection to the database server was lost (see the log); is it running?")]
    Unreachable,
    /// The server cannot be reached; nothing was sent.
    #[error("the database server cannot be reached (see the log); is it running?")]
    NotConnected,
    /// No connection became free in time; nothing was sent.
    #[error("all connections to the database were in use for too long")]
    Busy,
    /// The server has as many connections as it allows.
    #[error("the database server takes no more connections; raise its `max_connections`")]
    Crowded,
    /// No answer in time to what was sent.
    #[error("the database did not answer in time")]
    Slow,
    /// Anything else that SQLite says.
    #[error("an unexpected failure (SQLite code {code}); see the log")]
    Other {
        /// SQLite's extended result code.
        code: i32,
    },
    /// Anything else that a database server says.
    #[error("an unexpected failure (SQLSTATE {}); see the log", str::from_utf8(state).unwrap_or_default())]
    Server {
        /// Five letters and digits, SQL:2023 §24.
        state: [u8; 5],
    },
}
