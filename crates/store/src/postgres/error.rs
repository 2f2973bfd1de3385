//! Errors of the driver and the server, without their texts: those may quote what was asked.

use std::{error::Error as _, io};

use deadpool_postgres::{HookError, PoolError, TimeoutType};
use tokio_postgres::Error;

use crate::{StoreError, error::Trouble};

/// Why work on a connection ended without a result.
#[derive(Debug)]
pub(super) enum Failure {
    /// It was refused; trying again comes to the same.
    Refused(StoreError),
    Database(Error),
    /// No connection could be made to work on; nothing was sent.
    Connecting(Error),
    /// There is no connection to work on; nothing was sent.
    NoConnection(StoreError),
    /// The work did not end in time; whether the server ends it is not known.
    NoAnswer,
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Refused(error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Database(error)
    }
}

impl From<PoolError> for Failure {
    fn from(error: PoolError) -> Self {
        Self::NoConnection(match error {
            PoolError::Backend(error) | PoolError::PostCreateHook(HookError::Backend(error)) => {
                return Self::Connecting(error);
            }
            PoolError::Closed => StoreError::Closed,
            PoolError::Timeout(TimeoutType::Wait) => StoreError::Unavailable(Trouble::Busy),
            _ => StoreError::Unavailable(Trouble::NotConnected),
        })
    }
}

impl Failure {
    /// The server has undone everything, because of what others did at the same time.
    pub(super) fn is_collision(&self) -> bool {
        matches!(self.state(), Some("40001" | "40P01"))
    }

    /// The connection is of no use any more.
    pub(super) fn is_lost_connection(&self) -> bool {
        let (Self::Database(error) | Self::Connecting(error)) = self else { return false };
        trouble(error) == StoreError::Unavailable(Trouble::Unreachable)
    }

    fn state(&self) -> Option<&str> {
        match self {
            Self::Database(error) | Self::Connecting(error) => error.code().map(|state| state.code()),
            _ => None,
        }
    }

    /// What the caller is told.
    pub(super) fn told(self) -> StoreError {
        match self {
            Self::Refused(error) | Self::NoConnection(error) => error,
            Self::NoAnswer => StoreError::Unavailable(Trouble::Slow),
            Self::Database(ref error) | Self::Connecting(ref error) => {
                let told = match trouble(error) {
                    StoreError::Unavailable(Trouble::Unreachable | Trouble::Slow)
                        if matches!(self, Self::Connecting(_)) =>
                    {
                        StoreError::Unavailable(Trouble::NotConnected)
                    }
                    told => told,
                };
                if let StoreError::Unavailable(_) | StoreError::Corrupt(_) = told {
                    tracing::error!(
                        state = error.code().map(|s| s.code()),
                        cause = cause(error),
                        "the database failed"
                    );
                }
                told
            }
        }
    }

    /// What the caller is told when a store is opened: then it mostly is the URL that is wrong.
    pub(super) fn told_at_open(self) -> StoreError {
        let url = |problem: &str| StoreError::Url(problem.to_owned());
        match self.state() {
            Some("28P01" | "28000") => url("the server does not let this user in, or its password is wrong"),
            Some("3D000") => url("the server has no such database; create it"),
            Some("42501" | "3F000") => {
                url("this user may not create tables there; make it the owner of the database or of its schema")
            }
            Some(_) => self.told(),
            None => match &self {
                Self::Database(error) | Self::Connecting(error) if io_error(error).is_none() => match error.source() {
                    // words of the driver, as "password missing" or "server does not support TLS"
                    Some(source) => url(&source.to_string()),
                    None => self.told(),
                },
                _ => self.told(),
            },
        }
    }
}

fn io_error(error: &Error) -> Option<&io::Error> {
    error.source().and_then(|source| source.downcast_ref())
}

/// What went wrong on the way to the server; what the server says is not repeated.
fn cause(error: &Error) -> String {
    match io_error(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

fn trouble(error: &Error) -> StoreError {
    let Some(state) = error.code().map(|state| state.code()) else {
        return StoreError::Unavailable(Trouble::Unreachable);
    };
    StoreError::Unavailable(match state {
        "23505" => return StoreError::AlreadyExists,
        "XX001" | "XX002" => return StoreError::Corrupt(format!("the server found damage (SQLSTATE {state})")),
        "53100" => Trouble::Full,
        "53300" => Trouble::Crowded,
        "25006" => Trouble::ReadOnly,
        "55P03" => Trouble::Locked,
        "57014" => Trouble::Slow,
        // it is stopping, has crashed or is starting; idle for too long in a transaction
        "57P01" | "57P02" | "57P03" | "25P03" => Trouble::Unreachable,
        state if state.starts_with("08") => Trouble::Unreachable,
        state => Trouble::Server { state: state.as_bytes().try_into().unwrap_or(*b"?????") },
    })
}
