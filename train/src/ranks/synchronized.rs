//! Sums over all ranks in the midst of a forward pass, for batch norms that normalize by all micro-batches of a step.
//!
//! Layers know nothing of ranks: whoever runs them says that their statistics are of all ([`Ranks::synchronizing`]), on
//! this thread and until they are done, and they ask here for the totals ([`total`]). A forward pass has no way to fail, so
//! a rank that is lost is noted, and is the error of the whole.
//!
//! [`Ranks::synchronizing`]: super::Ranks::synchronizing

use std::cell::RefCell;
use std::sync::Arc;

use tch::{Kind, Tensor};

use super::ProcessGroup;

thread_local! {
    static CURRENT: RefCell<Option<Synchronized>> = const { RefCell::new(None) };
}

/// Whose totals are asked for, and what went wrong first.
struct Synchronized {
    group: Arc<dyn ProcessGroup>,
    failure: Option<String>,
}

/// Computes with totals of all ranks.
///
/// # Errors
/// Where a rank is gone or late: in words.
pub(super) fn within<T>(group: &Arc<dyn ProcessGroup>, compute: impl FnOnce() -> T) -> Result<T, String> {
    /// Ends it where `compute` panics too.
    struct End;
    impl Drop for End {
        fn drop(&mut self) {
            CURRENT.take();
        }
    }
    let synchronized = Synchronized {
        group: Arc::clone(group),
        failure: None,
    };
    CURRENT.set(Some(synchronized));
    let end = End;
    let computed = compute();
    let failure = CURRENT.take().and_then(|current| current.failure);
    drop(end);
    failure.map_or(Ok(computed), Err)
}

/// Whether totals are those of all ranks.
pub(crate) fn is_synchronizing() -> bool {
    CURRENT.with_borrow(Option::is_some)
}

/// A sum over some rows and their number: over those of this process, or of all ranks where that is asked for.
///
/// # Shapes
/// - `sum`, returns: any
pub(crate) fn total(sum: Tensor, num_rows: f64) -> (Tensor, f64) {
    CURRENT.with_borrow_mut(|current| match current {
        Some(Synchronized {
            group,
            failure: failure @ None,
        }) => {
            // Both at once, and in f64, which has every number of rows.
            let own_rows = Tensor::from_slice(&[num_rows]).to_device(sum.device());
            let own = Tensor::cat(&[sum.to_kind(Kind::Double).reshape([-1]), own_rows], 0);
            match group.sum_with_gradient(&own) {
                Ok(of_all) => {
                    let length = sum.numel() as i64;
                    let total = of_all.narrow(0, 0, length).to_kind(sum.kind());
                    (total.view_as(&sum), of_all.double_value(&[length]))
                }
                Err(reason) => {
                    *failure = Some(reason);
                    (sum, num_rows)
                }
            }
        }
        _ => (sum, num_rows),
    })
}
