//! A tenant's rights, at the moments that no client can time.

use std::sync::Mutex;
use std::sync::atomic::AtomicU64;

use super::*;
use crate::clock::SystemClock;

fn upload(input: ByteStream) -> Upload {
    Upload {
        input,
        declared: None,
        name: None,
        declared_type: None,
        downloads: None,
        digester: Digester::default(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_sealed_before_the_end_is_not_published_after_it() {
    let house = house();
    for (end, error) in [
        (PipelineError::Erased, PipelineError::Erased),
        (PipelineError::Suspended, PipelineError::Suspended),
    ] {
        let terms = house.terms(600);
        let sealed = house.pipeline.seal(tenant(), &terms, upload(bytes(100))).await.unwrap();
        if end == PipelineError::Erased {
            assert!(house.pipeline.erase(tenant()).await.is_empty(), "it was not accepted yet");
            assert_eq!(house.keys.files_alive(), 0, "its key is gone all the same");
        } else {
            house.pipeline.suspend(tenant()).unwrap();
            house.pipeline.lift(tenant()).unwrap();
        }
        assert_eq!(house.pipeline.publish(sealed).err(), Some(error));
        house.is_empty().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erasure_ends_everything_that_began_before_it_however_far_it_was() {
    let house = house_over(&VirtualClock::at(SystemClock.now().wall), Arc::new(SystemEntropy));
    let round = Arc::new(AtomicU64::new(0));
    let made = Arc::new(Mutex::new(Vec::<(u64, Arc<LiveFile>)>::new()));
    let senders: Vec<_> = (0..4)
        .map(|_| {
            let (pipeline, terms) = (house.pipeline.clone(), house.terms(600));
            let (round, made) = (round.clone(), made.clone());
            let tasks = house.pipeline.tasks.clone();
            tasks.spawn(async move {
                while round.load(Ordering::SeqCst) < 200 {
                    let (began, rounds) = (Arc::new(AtomicU64::new(0)), round.clone());
                    let seen = began.clone();
                    // Asked for with the first byte: by then the upload has begun.
                    let input: ByteStream = Box::pin(stream::once(async move {
                        seen.store(rounds.load(Ordering::SeqCst), Ordering::SeqCst);
                        Ok(Bytes::from_static(b"some bytes"))
                    }));
                    let Ok(sealed) = pipeline.seal(tenant(), &terms, upload(input)).await else {
                        continue;
                    };
                    tokio::task::yield_now().await;
                    if let Ok(file) = pipeline.publish(sealed) {
                        made.lock().unwrap().push((began.load(Ordering::SeqCst), file));
                    }
                }
            })
        })
        .collect();
    let mut erased = 0;
    for _ in 0..200 {
        while house.pipeline.census().files == 0 {
            tokio::task::yield_now().await;
        }
        let now = round.fetch_add(1, Ordering::SeqCst) + 1;
        erased += house.pipeline.erase(tenant()).await.len();
        let mut made = made.lock().unwrap();
        for (began, file) in &*made {
            let lives = file.origin.keys.deadline().is_some();
            assert!(*began >= now || !lives, "begun in round {began}, alive after round {now}");
        }
        made.retain(|(_, file)| file.origin.keys.deadline().is_some());
    }
    for sender in senders {
        sender.await.unwrap();
    }
    assert!(erased > 0, "nothing was ever there to erase");
    house.pipeline.erase(tenant()).await;
    made.lock().unwrap().clear();
    house.is_empty().await;
}
