//! One worker: a thread with its own event loop, its own connections and its own view of the table.
//!
//! ```text
//! control ──Command──▶ Worker ──Report──▶ control
//!                        ├─ Listener ─▶ accept ─▶ one task a connection
//!                        ├─ Table (replaced whole) and the backends with their pools
//!                        └─ sweep: alarms and idle connections, ten times a second
//! ```

use crate::alarm::{Alarms, SWEEP_EVERY};
use crate::budget::Budget;
use crate::counters::WorkerCounters;
use crate::listen;
use crate::table::{Known, Routes, Table};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::os::fd::OwnedFd;
use std::rc::{Rc, Weak};
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use teal_model::ids::{ServiceKey, TableNumber};
use teal_model::wire::{BackendId, ListenerKey, RouteTable};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;

/// Memory for one connection that is being served.
const BLOCK: usize = 16 * 1024;
/// Spare memory that a worker keeps.
const MAX_SPARE: usize = 256;

/// What control asks of a worker.
#[derive(Debug)]
pub(crate) enum Command {
    Table {
        table: Arc<RouteTable>,
        gone: Gone,
    },
    Gone(Gone),
    Listen(ListenerKey, OwnedFd),
    Unlisten(ListenerKey),
    /// Stop accepting, close each client's connection with its next answer, report when no request is in flight.
    Finish,
    /// Now.
    Stop,
}

/// Backends whose process has ended.
pub(crate) type Gone = Arc<HashSet<BackendId>>;

/// What a worker tells control.
#[derive(Debug)]
pub(crate) enum Report {
    Took { worker: usize, table: TableNumber },
    ListenerFailed { listener: ListenerKey, why: String },
    Finished { worker: usize },
}

/// What the workers have in common. Nothing of it is touched by a request that is not held.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) epoch: Instant,
    waiting: Mutex<BTreeMap<ServiceKey, Arc<AtomicU32>>>,
}

impl Shared {
    pub(crate) fn new() -> Self {
        Self { epoch: Instant::now(), waiting: Mutex::default() }
    }

    /// How many requests of a service wait, over all workers.
    fn waiting(&self, service: &ServiceKey) -> Arc<AtomicU32> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).entry(service.clone()).or_default().clone()
    }
}

type Accepting = (Rc<Listener>, JoinHandle<()>);

/// An address that is listened on, with what the current table says of it.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) key: ListenerKey,
    pub(crate) routes: RefCell<Rc<Routes>>,
}

/// Buffers of a connection that is being served.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    /// From the client.
    pub(crate) input: crate::http1::buffer::Buffer,
    /// To the client.
    pub(crate) out: Vec<u8>,
    /// The head for the backend, and what is kept of the body behind it.
    pub(crate) head: Vec<u8>,
}

#[derive(Debug)]
pub(crate) struct Worker {
    index: usize,
    pub(crate) shared: Arc<Shared>,
    pub(crate) counters: Arc<WorkerCounters>,
    pub(crate) alarms: Rc<Alarms>,
    pub(crate) budget: Budget,
    /// Told when there is a new table, or a backend has gone.
    pub(crate) changed: Notify,
    table: RefCell<Rc<Table>>,
    known: RefCell<Known>,
    listeners: RefCell<HashMap<ListenerKey, Accepting>>,
    /// Not accepted on any more; their connections may live on, and are routed by the current table.
    departed: RefCell<Vec<Weak<Listener>>>,
    blocks: RefCell<Vec<Box<[u8]>>>,
    scratch: RefCell<Vec<Scratch>>,
    finishing: Cell<bool>,
    exchanges: Cell<usize>,
    /// Told when the last exchange ends.
    quiet: Notify,
    reports: mpsc::Sender<Report>,
}

impl Worker {
    pub(crate) fn new(
        index: usize,
        shared: Arc<Shared>,
        counters: Arc<WorkerCounters>,
        reports: mpsc::Sender<Report>,
    ) -> Rc<Self> {
        let now = Instant::now();
        Rc::new(Self {
            index,
            shared,
            counters,
            alarms: Alarms::new(now),
            budget: Budget::new(now),
            changed: Notify::new(),
            table: RefCell::default(),
            known: RefCell::new(Known::of_worker(index)),
            listeners: RefCell::default(),
            departed: RefCell::default(),
            blocks: RefCell::default(),
            scratch: RefCell::default(),
            finishing: Cell::new(false),
            exchanges: Cell::new(0),
            quiet: Notify::new(),
            reports,
        })
    }

    /// Serves until told to stop, or until control is gone.
    pub(crate) async fn run(self: Rc<Self>, mut commands: mpsc::Receiver<Command>) {
        let mut sweep = tokio::time::interval(SWEEP_EVERY);
        sweep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                command = commands.recv() => match command {
                    None | Some(Command::Stop) => return,
                    Some(command) => self.obey(command).await,
                },
                _ = sweep.tick() => self.sweep(),
                () = self.quiet.notified(), if self.finishing.get() => self.report_finished().await,
            }
        }
    }

    async fn obey(self: &Rc<Self>, command: Command) {
        match command {
            Command::Table { table, gone } => {
                self.take(&table, &gone);
                self.report(Report::Took { worker: self.index, table: table.number }).await;
            }
            Command::Gone(gone) => {
                self.known.borrow().retire(&gone);
                self.changed.notify_waiters();
            }
            Command::Listen(key, socket) => {
                if let Err(error) = self.listen(key.clone(), socket) {
                    self.report(Report::ListenerFailed { listener: key, why: error.to_string() }).await;
                }
            }
            Command::Unlisten(key) => {
                if let Some(accepting) = self.listeners.borrow_mut().remove(&key) {
                    self.stop_accepting(accepting);
                }
            }
            Command::Finish => {
                self.finishing.set(true);
                self.listeners.borrow_mut().drain().for_each(|(_, accepting)| self.stop_accepting(accepting));
                self.report_finished().await;
            }
            Command::Stop => {}
        }
    }

    fn take(&self, table: &RouteTable, gone: &Gone) {
        let waiting = |service: &ServiceKey| self.shared.waiting(service);
        let table = Table::prepare(table, gone, &mut self.known.borrow_mut(), &self.counters, waiting);
        let renew = |listener: &Listener| *listener.routes.borrow_mut() = table.routes(&listener.key);
        self.listeners.borrow().values().for_each(|(listener, _)| renew(listener));
        self.departed.borrow_mut().retain(|listener| listener.upgrade().inspect(|listener| renew(listener)).is_some());
        *self.table.borrow_mut() = Rc::new(table);
        self.changed.notify_waiters();
    }

    fn listen(self: &Rc<Self>, key: ListenerKey, socket: OwnedFd) -> std::io::Result<()> {
        let listener = Rc::new(Listener { routes: RefCell::new(self.table.borrow().routes(&key)), key: key.clone() });
        let socket = listen::Socket::adopt(socket)?;
        let accepting = tokio::task::spawn_local(listen::accept(self.clone(), listener.clone(), socket));
        if let Some(before) = self.listeners.borrow_mut().insert(key, (listener, accepting)) {
            self.stop_accepting(before);
        }
        Ok(())
    }

    fn stop_accepting(&self, (listener, accepting): Accepting) {
        accepting.abort();
        self.departed.borrow_mut().push(Rc::downgrade(&listener));
    }

    fn sweep(&self) {
        let now = Instant::now();
        self.alarms.sweep(now);
        self.known.borrow().backends().for_each(|backend| backend.sweep(now));
    }

    /// Control that is gone needs no report.
    async fn report(&self, report: Report) {
        let _ = self.reports.send(report).await;
    }

    async fn report_finished(&self) {
        if self.exchanges.get() == 0 {
            self.report(Report::Finished { worker: self.index }).await;
        }
    }

    pub(crate) fn table(&self) -> Rc<Table> {
        self.table.borrow().clone()
    }

    pub(crate) fn table_number(&self) -> TableNumber {
        self.table.borrow().number
    }

    /// Connections are to end with their next answer.
    pub(crate) fn is_finishing(&self) -> bool {
        self.finishing.get()
    }

    pub(crate) fn exchange_begins(self: &Rc<Self>) -> Exchange {
        self.exchanges.set(self.exchanges.get() + 1);
        Exchange(self.clone())
    }

    pub(crate) fn block(&self) -> Box<[u8]> {
        self.blocks.borrow_mut().pop().unwrap_or_else(|| vec![0; BLOCK].into_boxed_slice())
    }

    pub(crate) fn give_block(&self, block: Box<[u8]>) {
        let mut blocks = self.blocks.borrow_mut();
        if block.len() == BLOCK && blocks.len() < MAX_SPARE {
            blocks.push(block);
        }
    }

    pub(crate) fn scratch(&self) -> Scratch {
        let mut scratch = self.scratch.borrow_mut().pop().unwrap_or_default();
        scratch.input.ensure(BLOCK);
        scratch
    }

    pub(crate) fn give_scratch(&self, mut scratch: Scratch) {
        let mut spare = self.scratch.borrow_mut();
        let small = scratch.input.capacity() == BLOCK && scratch.out.capacity() + scratch.head.capacity() <= 4 * BLOCK;
        if small && spare.len() < MAX_SPARE {
            scratch.input.consume(scratch.input.len());
            scratch.out.clear();
            scratch.head.clear();
            spare.push(scratch);
        }
    }
}

/// A request or a TCP connection that is being served.
#[derive(Debug)]
pub(crate) struct Exchange(Rc<Worker>);

impl Drop for Exchange {
    fn drop(&mut self) {
        let left = self.0.exchanges.get() - 1;
        self.0.exchanges.set(left);
        if left == 0 && self.0.finishing.get() {
            self.0.quiet.notify_one();
        }
    }
}
