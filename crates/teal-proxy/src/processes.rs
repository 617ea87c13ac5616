//! The containers behind the backends, watched by pidfd: an address is believed only while its process lives.

use crate::pidfd;
use rustix::event::{PollFd, PollFlags, Timespec};
use std::collections::{HashMap, HashSet};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use teal_model::wire::{BackendId, RouteTable};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

#[derive(Debug)]
pub(crate) struct Processes {
    watched: HashMap<BackendId, AbortHandle>,
    /// Ended, and perhaps named by a table still.
    gone: Arc<HashSet<BackendId>>,
    ended: mpsc::Sender<BackendId>,
}

impl Processes {
    /// `ended` is told of each process that ends.
    pub(crate) fn new(ended: mpsc::Sender<BackendId>) -> Self {
        Self { watched: HashMap::new(), gone: Arc::default(), ended }
    }

    pub(crate) fn gone(&self) -> Arc<HashSet<BackendId>> {
        self.gone.clone()
    }

    /// Watches a backend's process. True: it has ended already.
    pub(crate) fn watch(&mut self, backend: BackendId, pidfd: OwnedFd) -> io::Result<bool> {
        if self.gone.contains(&backend) || self.watched.contains_key(&backend) {
            return Ok(false);
        }
        if has_ended(&pidfd)? {
            self.mark_gone(backend);
            return Ok(true);
        }
        let pidfd = pidfd::register(pidfd)?;
        let (ended, id) = (self.ended.clone(), backend.clone());
        let watching = tokio::spawn(async move {
            if pidfd.readable().await.is_ok() {
                // Control that is gone needs no word.
                let _ = ended.send(id).await;
            }
        });
        self.watched.insert(backend, watching.abort_handle());
        Ok(false)
    }

    pub(crate) fn mark_gone(&mut self, backend: BackendId) {
        self.watched.remove(&backend);
        Arc::make_mut(&mut self.gone).insert(backend);
    }

    /// Forgets what `before` named and `now` does not: nothing will be sent there again.
    pub(crate) fn forget(&mut self, before: &RouteTable, now: &RouteTable) {
        let names = |table: &RouteTable| -> HashSet<BackendId> {
            let releases = table.services.values().flat_map(|service| &service.releases);
            releases.flat_map(|release| &release.backends).map(|backend| backend.id.clone()).collect()
        };
        let now = names(now);
        for id in names(before).difference(&now) {
            if let Some(watching) = self.watched.remove(id) {
                watching.abort();
            }
            if self.gone.contains(id) {
                Arc::make_mut(&mut self.gone).remove(id);
            }
        }
    }
}

/// A pidfd is readable once its process has ended, reaped or not.
fn has_ended(pidfd: &OwnedFd) -> io::Result<bool> {
    let mut fds = [PollFd::new(pidfd, PollFlags::IN)];
    Ok(rustix::event::poll(&mut fds, Some(&Timespec::default()))? > 0)
}
