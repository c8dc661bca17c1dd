//! The worker threads: one pool a process, made on first use, replaced after a fork or when its size changes.
//!
//! Threads never decide how work is cut: callers hand over pieces that depend on shapes alone, each piece
//! owns what it writes, and so the number of threads changes no bit of a result.

use crate::error::{Error, Result};
use arc_swap::ArcSwapOption;
use rayon::prelude::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Work below this many elementary operations (some ten microseconds) is not worth waking threads for.
const SERIAL_WORK: usize = 1 << 17;

/// A request to stop, shared between the thread that waits for an operation and those that run it.
#[derive(Debug, Default)]
pub struct Cancel(AtomicBool);

impl Cancel {
    /// Asks the operation to stop at its next piece.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// An error once it was asked for.
    pub(crate) fn check(&self) -> Result<()> {
        if self.0.load(Ordering::Relaxed) { Err(Error::Interrupted) } else { Ok(()) }
    }
}

struct Pool {
    /// The process that made the threads: a forked child inherits the value, not the threads.
    process: u32,
    threads: usize,
    workers: rayon::ThreadPool,
}

static POOL: ArcSwapOption<Pool> = ArcSwapOption::const_empty();

/// What [`set_num_threads`] asked for; 0 means the default.
static REQUESTED: AtomicUsize = AtomicUsize::new(0);

/// Sets how many threads operations use; 0 restores the default.
pub fn set_num_threads(threads: usize) {
    REQUESTED.store(threads, Ordering::Relaxed);
}

/// How many threads operations use: what [`set_num_threads`] said, else `LOGITSCOPE_NUM_THREADS`, else
/// `OMP_NUM_THREADS`, else the number of CPUs this process may run on.
pub fn num_threads() -> usize {
    match REQUESTED.load(Ordering::Relaxed) {
        0 => default_threads(),
        threads => threads,
    }
}

fn default_threads() -> usize {
    let from_environment = |name| std::env::var(name).ok()?.trim().parse().ok().filter(|&n: &usize| n > 0);
    from_environment("LOGITSCOPE_NUM_THREADS")
        .or_else(|| from_environment("OMP_NUM_THREADS"))
        .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from))
}

/// The pool of this process at its present size; None when one thread is asked for or none can be started.
fn pool() -> Option<Arc<Pool>> {
    let process = std::process::id();
    let threads = num_threads();
    if threads == 1 {
        return None;
    }
    let current = POOL.load_full();
    if let Some(pool) = current.filter(|pool| pool.process == process && pool.threads == threads) {
        return Some(pool);
    }
    let workers = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .thread_name(|index| format!("logitscope-{index}"))
        .build()
        .ok()?;
    let pool = Arc::new(Pool { process, threads, workers });
    if let Some(replaced) = POOL.swap(Some(Arc::clone(&pool))).filter(|old| old.process != process) {
        // Its threads stayed in the parent process: dropping it would wait for answers they cannot give.
        std::mem::forget(replaced);
    }
    Some(pool)
}

/// Runs `task` on every piece, on all threads when `work` (elementary operations in all pieces) is worth it.
///
/// `scratch` makes what a thread reuses from piece to piece.
///
/// # Errors
/// [`Error::Interrupted`] if `cancel` was set before the last piece began; what was written is then partial.
pub fn for_each<I: Send, X>(
    pieces: Vec<I>,
    work: usize,
    cancel: &Cancel,
    scratch: impl Fn() -> X + Sync + Send,
    task: impl Fn(&mut X, I) + Sync + Send,
) -> Result<()> {
    let workers = if pieces.len() > 1 && work >= SERIAL_WORK { pool() } else { None };
    let Some(pool) = workers else {
        let mut own = scratch();
        return pieces.into_iter().try_for_each(|piece| {
            cancel.check()?;
            task(&mut own, piece);
            Ok(())
        });
    };
    pool.workers.install(|| {
        pieces.into_par_iter().try_for_each_init(scratch, |own, piece| {
            cancel.check()?;
            task(own, piece);
            Ok(())
        })
    })
}

/// Runs `operation` on a worker while the calling thread calls `tick` every `period`; when `tick` returns
/// false the operation is cancelled. Short operations are better called directly.
///
/// # Panics
/// If `operation` does.
pub fn with_ticks<R: Send>(
    period: std::time::Duration,
    cancel: &Cancel,
    mut tick: impl FnMut() -> bool,
    operation: impl FnOnce() -> R + Send,
) -> R {
    let (sender, receiver) = std::sync::mpsc::sync_channel(1);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            // The receiver is only dropped after this arrived or after this thread has panicked.
            let _ = sender.send(operation());
        });
        loop {
            match receiver.recv_timeout(period) {
                Ok(result) => return result,
                Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {
                    if !tick() {
                        cancel.cancel();
                    }
                }
                Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => {
                    panic!("the operation's thread ended without a result")
                }
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_piece_runs_once_at_any_number_of_threads() {
        for threads in [1, 2, 3, 8] {
            set_num_threads(threads);
            let mut cells = vec![0_u32; 1000];
            let pieces: Vec<_> = cells.chunks_mut(7).enumerate().collect();
            for_each(
                pieces,
                usize::MAX,
                &Cancel::default(),
                || (),
                |(), (index, cells)| {
                    for cell in cells {
                        *cell += 1 + index as u32;
                    }
                },
            )
            .unwrap();
            assert!(cells.iter().enumerate().all(|(i, &cell)| cell == 1 + (i / 7) as u32));
        }
        set_num_threads(0);
    }

    #[test]
    fn a_cancelled_operation_stops_at_its_next_piece() {
        let cancel = Cancel::default();
        let ran = AtomicUsize::new(0);
        let result = for_each(
            (0..100).collect(),
            1,
            &cancel,
            || (),
            |(), index: usize| {
                ran.fetch_add(1, Ordering::Relaxed);
                if index == 4 {
                    cancel.cancel();
                }
            },
        );
        assert_eq!(result, Err(Error::Interrupted));
        assert_eq!(ran.into_inner(), 5);
    }

    #[test]
    fn ticks_come_while_the_operation_runs_and_can_cancel_it() {
        let cancel = Cancel::default();
        let period = std::time::Duration::from_millis(1);
        let stopped = with_ticks(
            period,
            &cancel,
            || false,
            || {
                while cancel.check().is_ok() {
                    std::thread::yield_now();
                }
                "stopped"
            },
        );
        assert_eq!(stopped, "stopped");
    }
}
