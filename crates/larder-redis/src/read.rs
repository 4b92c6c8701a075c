//! Reading values and what they have left.

use larder_core::{Each, Found, GetOptions, Key, Remaining, Result};
use redis::{Cmd, Pipeline, Value};

use crate::{
    answer,
    batch::to_each,
    error::unexpected,
    sockets::{Repeat, Sockets},
};

pub(crate) async fn get_part(sockets: &Sockets, keys: &[Key], options: GetOptions) -> Each<Option<Found>> {
    let read = match keys {
        _ if options.with_ttl => get_with_ttl(sockets, keys).await,
        [key] => get_one(sockets, key).await,
        _ => mget(sockets, keys).await,
    };
    read.unwrap_or_else(|error| to_each(keys.iter(), &error))
}

async fn get_one(sockets: &Sockets, key: &Key) -> Result<Each<Option<Found>>> {
    let value = sockets.command("get_many", Cmd::new().arg("GET").arg(key.as_str()), Repeat::Once).await?;
    Ok(vec![Ok(answer::bytes("get_many", value)?.map(|value| Found::new(value, None)))])
}

async fn mget(sockets: &Sockets, keys: &[Key]) -> Result<Each<Option<Found>>> {
    let mut command = Cmd::with_capacity(keys.len() + 1, keys.iter().map(|key| key.as_str().len()).sum());
    command.arg("MGET");
    for key in keys {
        command.arg(key.as_str());
    }
    let values = answer::array("get_many", sockets.command("get_many", &command, Repeat::Once).await?)?;
    if values.len() != keys.len() {
        return Err(unexpected("get_many", "as long as the list of keys"));
    }
    let found = |value| Ok(answer::bytes("get_many", value)?.map(|value| Found::new(value, None)));
    Ok(keys.iter().zip(values).map(|(key, value)| found(value).map_err(|error: larder_core::Error| error.with_key(key))).collect())
}

async fn get_with_ttl(sockets: &Sockets, keys: &[Key]) -> Result<Each<Option<Found>>> {
    let mut pipeline = Pipeline::with_capacity(keys.len() * 2);
    for key in keys {
        pipeline.cmd("GET").arg(key.as_str()).cmd("PTTL").arg(key.as_str());
    }
    let mut answers = sockets.pipeline("get_many", &pipeline, Repeat::Once).await?.into_iter();
    let mut next = || answers.next().unwrap_or_else(|| Err(unexpected("get_many", "complete")));
    Ok(keys
        .iter()
        .map(|key| {
            let (value, left) = (next(), next());
            found_with_ttl(value, left).map_err(|error| error.with_key(key))
        })
        .collect())
}

fn found_with_ttl(value: Result<Value>, left: Result<Value>) -> Result<Option<Found>> {
    let Some(value) = answer::bytes("get_many", value?)? else { return Ok(None) };
    // No time to live means that the key has gone since its value was read.
    Ok(answer::remaining("get_many", &left?)?.map(|left| Found::new(value, Some(left))))
}

pub(crate) async fn ttl_part(sockets: &Sockets, keys: &[Key]) -> Each<Option<Remaining>> {
    let mut pipeline = Pipeline::with_capacity(keys.len());
    for key in keys {
        pipeline.cmd("PTTL").arg(key.as_str());
    }
    match sockets.pipeline("ttl_many", &pipeline, Repeat::Once).await {
        Err(error) => to_each(keys.iter(), &error),
        Ok(answers) => {
            let left = |answer: Result<Value>| answer::remaining("ttl_many", &answer?);
            keys.iter().zip(answers).map(|(key, answer)| left(answer).map_err(|error| error.with_key(key))).collect()
        }
    }
}
