//! How do virtual users share connections, as the requests of an application do? One pool, with a limit, and a wait that is measured.

use std::time::Duration;

use deadpool::managed::{self, Metrics, Object, RecycleError, RecycleResult, Timeouts};
use tokio::runtime::Runtime;

use super::work::{Opener, Session};
use crate::{Error, Result};

/// The pool of a turn. Its connections belong to a runtime of their own: on a load thread's, whoever borrows one would wait for that thread.
pub(super) struct Pool {
    pool: managed::Pool<Manager>,
    /// Dropped last: connections need it as long as they live.
    runtime: Option<Runtime>,
}

/// A connection for one attempt.
pub(super) enum Checkout {
    Own(Box<Session>),
    Pooled(Object<Manager>),
}

impl Checkout {
    pub fn as_mut(&mut self) -> &mut Session {
        match self {
            Self::Own(session) => session,
            Self::Pooled(object) => object,
        }
    }

    /// Takes it for good; the pool will open another.
    pub fn into_inner(self) -> Session {
        match self {
            Self::Own(session) => *session,
            Self::Pooled(object) => *Object::take(object),
        }
    }
}

pub(super) struct Manager {
    opener: Opener,
    application_name: String,
    runtime: tokio::runtime::Handle,
}

impl managed::Manager for Manager {
    type Type = Box<Session>;
    type Error = Error;

    async fn create(&self) -> Result<Box<Session>> {
        let (opener, name) = (self.opener.clone(), format!("{}/pool", self.application_name));
        let opening = self.runtime.spawn(async move { opener.open(&name).await.map(Box::new) });
        opening.await.map_err(|_| Error::inconclusive("a connection of the pool could not be opened"))?
    }

    async fn recycle(&self, session: &mut Box<Session>, _: &Metrics) -> RecycleResult<Error> {
        if session.is_open() { Ok(()) } else { Err(RecycleError::message("closed")) }
    }
}

impl Pool {
    /// A pool of `size` connections, none of which is open yet.
    ///
    /// # Errors
    /// When its runtime cannot be made.
    pub fn new(size: u32, opener: Opener, application_name: &str) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("pool")
            .enable_all()
            .build()
            .map_err(|e| Error::inconclusive("the pool's runtime cannot be made").because(e))?;
        let manager = Manager { opener, application_name: application_name.to_owned(), runtime: runtime.handle().clone() };
        let pool = managed::Pool::builder(manager)
            .max_size(size as usize)
            .runtime(deadpool::Runtime::Tokio1)
            .build()
            .map_err(|e| Error::inconclusive("the pool cannot be made").because(e))?;
        Ok(Self { pool, runtime: Some(runtime) })
    }

    /// Opens every connection, so that the load does not wait for that.
    ///
    /// # Errors
    /// When one cannot be opened.
    pub async fn fill(&self) -> Result<()> {
        let mut all = Vec::new();
        for _ in 0..self.pool.status().max_size {
            all.push(self.checkout().await?);
        }
        Ok(())
    }

    /// Waits for a connection.
    ///
    /// # Errors
    /// When one had to be opened and could not be.
    pub async fn checkout(&self) -> Result<Checkout> {
        // Whoever waits has a deadline of its own.
        let timeouts = Timeouts { wait: None, create: Some(Duration::from_secs(10)), recycle: None };
        let object = self.pool.timeout_get(&timeouts).await.map_err(|e| match e {
            managed::PoolError::Backend(error) => error,
            other => Error::inconclusive("the pool gives no connection").because(std::io::Error::other(other.to_string())),
        })?;
        Ok(Checkout::Pooled(object))
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.pool.close();
        if let Some(runtime) = self.runtime.take() {
            // May happen inside another runtime, where waiting is not allowed.
            runtime.shutdown_background();
        }
    }
}
