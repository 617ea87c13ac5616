//! `/orders`: a row in Postgres, a count in Redis, and a task for the worker. What is answered with 200 is in the database.

use crate::settings::Settings;
use neighbours::postgres::{Postgres, quoted};
use neighbours::redis::Redis;
use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(5);
/// The list that the worker takes from, and the count of all orders.
pub const WORK: &str = "work";
const COUNT: &str = "orders";
/// `IF NOT EXISTS` alone fails when two sessions say it at once; the lock is given back at the end of the transaction.
const CREATE: &str = "BEGIN; SELECT pg_advisory_xact_lock(7); CREATE TABLE IF NOT EXISTS orders \
    (id bigserial PRIMARY KEY, request text NOT NULL, version text NOT NULL); COMMIT";

pub struct Orders {
    database: String,
    cache: String,
    sessions: Mutex<Vec<Session>>,
}

/// One connection to each. It goes back to the others when all went well.
struct Session {
    database: Postgres,
    cache: Redis,
}

impl Orders {
    pub fn new(settings: &Settings) -> Option<Self> {
        let (database, cache) = (settings.database.clone()?, settings.cache.clone()?);
        Some(Self { database, cache, sessions: Mutex::default() })
    }

    /// Its number, and how many there are by Redis.
    pub fn take(&self, request: &str, version: &str) -> io::Result<String> {
        self.with_session(|session| {
            let insert = format!(
                "INSERT INTO orders (request, version) VALUES ({}, {}) RETURNING id",
                quoted(request),
                quoted(version)
            );
            let id = first(session.database.query(&insert)?)?;
            let count = session.cache.number(&["INCR", COUNT])?;
            session.cache.number(&["LPUSH", WORK, &id])?;
            Ok(format!("order {id} of {count}"))
        })
    }

    pub fn count(&self) -> io::Result<String> {
        self.with_session(|session| first(session.database.query("SELECT count(*) FROM orders")?))
    }

    fn with_session(&self, work: impl FnOnce(&mut Session) -> io::Result<String>) -> io::Result<String> {
        let mut session = match self.idle() {
            Some(session) => session,
            None => self.open()?,
        };
        let text = work(&mut session)?;
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner).push(session);
        Ok(text)
    }

    fn idle(&self) -> Option<Session> {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(session) = sessions.pop() {
            if session.database.is_quiet() && session.cache.is_quiet() {
                return Some(session);
            }
        }
        None
    }

    fn open(&self) -> io::Result<Session> {
        let mut database = Postgres::open(&self.database, TIMEOUT)?;
        database.query(CREATE)?;
        Ok(Session { database, cache: Redis::open(&self.cache, TIMEOUT)? })
    }
}

fn first(rows: Vec<neighbours::postgres::Row>) -> io::Result<String> {
    rows.into_iter().flatten().flatten().next().ok_or_else(|| io::Error::other("the database answered without a row"))
}
