//! A process with a cache, for tests of several: `larder-tests-process REDIS_URL [JOURNAL_FILE]`. Reads a command a line and
//! answers each with a line.
#![expect(clippy::print_stdout, reason = "answers go to standard output")]

use std::{error::Error, future::pending, io::BufRead, time::Duration};

use larder::{Cache, Fsync, Strategy};

const PATIENT: Strategy = Strategy::new("patient", Duration::from_secs(600)).remote_deadline(Duration::from_secs(10));

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let url = std::env::args().nth(1).ok_or("give the URL of a Redis server")?;
    let deadline = Duration::from_secs(5);
    let builder = Cache::builder().namespace("t").strategy(PATIENT).remote_command_deadline(deadline).redis(url);
    let builder = match std::env::args().nth(2) {
        Some(path) => builder.fallback(move |fallback| fallback.journal_file(&path, Fsync::Always)),
        None => builder,
    };
    let cache = builder.build().await?;
    // Reading blocks this thread only: the cache's tasks run on the runtime's workers.
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.split(' ').collect();
        println!("{}", answer(&cache, &words).await?);
    }
    Ok(())
}

async fn answer(cache: &Cache, words: &[&str]) -> Result<String, Box<dyn Error>> {
    Ok(match *words {
        ["trusted"] => cache.health().await.remote.is_some_and(|remote| remote.bus_trusted).to_string(),
        ["load", key, value] => {
            let value = value.to_owned();
            let loader = move || async move { Ok::<_, std::io::Error>(value) };
            let outcome = cache.get_or_load(key, loader).outcome().await?;
            format!("{} {}", outcome.source, outcome.value)
        }
        ["load-for-ever", key] => {
            let (cache, key) = (cache.clone(), key.to_owned());
            drop(tokio::spawn(async move {
                let loader = || async { Ok::<String, std::io::Error>(pending().await) };
                cache.get_or_load(key.as_str(), loader).await.map(drop)
            }));
            "begun".to_owned()
        }
        ["near", key] => {
            let value = cache.near().get::<_, String>(key).await;
            value.map_or_else(|| "-".to_owned(), |value| value.as_ref().clone())
        }
        ["invalidate", key] => format!("{:?}", cache.invalidate().key(key).await?.status),
        ["journal"] => {
            let stats = cache.fallback().ok_or("there is a remote tier")?.stats();
            format!("{} {} {}", stats.file.as_str(), stats.file_errors > 0, stats.generations_removed)
        }
        _ => return Err(format!("unknown command: {}", words.join(" ")).into()),
    })
}
