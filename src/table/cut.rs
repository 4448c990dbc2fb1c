//! The wish that a stream should end now, seen by everyone who carries the file's bytes.

use std::future::Future;

use tokio::sync::watch;

/// Fires once and stays fired.
#[derive(Clone)]
pub struct Cut(watch::Sender<bool>);

impl Default for Cut {
    fn default() -> Self {
        Self(watch::Sender::new(false))
    }
}

impl Cut {
    /// Ends every stream that watches.
    pub fn fire(&self) {
        self.0.send_replace(true);
    }

    #[must_use]
    pub fn has_fired(&self) -> bool {
        *self.0.borrow()
    }

    /// Completes once fired; never, if the sender is gone without firing.
    pub fn fired(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut seen = self.0.subscribe();
        let keep = self.clone();
        async move {
            let _keep = keep;
            // The sender lives in `keep`: this only returns when it fired.
            let _ = seen.wait_for(|fired| *fired).await;
        }
    }
}
