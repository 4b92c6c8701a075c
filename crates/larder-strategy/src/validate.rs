//! What a strategy must hold to, said per field.

use std::time::Duration;

use larder_core::{Error, Result};

use crate::{EarlyRefresh, Lease, Strategy, span::Span};

/// The largest share of the TTL that jitter may take.
pub(crate) const MAX_JITTER: f64 = 0.5;

impl Strategy {
    /// Checks every field and how they go together.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](larder_core::ErrorKind::Config) for the first field that is wrong, naming it and what would
    /// be right.
    pub fn validate(&self) -> Result<()> {
        if self.name.trim().is_empty() {
            return Err(Error::config("name", "is empty; give the strategy a name for logs and metrics"));
        }
        if self.region.trim().is_empty() {
            return Err(Error::config("region", "is empty; name the key prefix, such as `api`"));
        }
        self.validate_life()?;
        self.validate_early_refresh()?;
        self.validate_waits()
    }

    fn validate_life(&self) -> Result<()> {
        above_zero("ttl", self.ttl, "leave the cache out, or disable it, where nothing shall be stored")?;
        if !(0.0..=MAX_JITTER).contains(&self.jitter) {
            let message = format!("is {}; it is a share of the TTL from 0 to {MAX_JITTER}", self.jitter);
            return Err(Error::config("jitter", message));
        }
        if let Some(fail_safe) = self.fail_safe {
            above_zero("fail_safe.max_stale", fail_safe.max_stale, "use `None` to have errors returned")?;
            if fail_safe.max_stale > self.stale_window {
                let message = format!(
                    "is {}, but entries are kept only for the `stale_window` of {} after their TTL; widen that window \
                     or lower this one",
                    Span(fail_safe.max_stale),
                    Span(self.stale_window)
                );
                return Err(Error::config("fail_safe.max_stale", message));
            }
        }
        for (field, ttl) in
            [("negative_ttl", self.negative_ttl), ("cache_none", self.cache_none), ("near_ttl", self.near_ttl)]
        {
            if let Some(ttl) = ttl {
                above_zero(field, ttl, "use `None` to turn it off")?;
            }
        }
        if self.near_ttl.is_some() && !self.tiers.uses_near() {
            return Err(Error::config("near_ttl", "is set, but `tiers` is `Remote`; unset one of them"));
        }
        Ok(())
    }

    fn validate_early_refresh(&self) -> Result<()> {
        match self.early_refresh {
            EarlyRefresh::Share(share) if !(share > 0.0 && share < 1.0) => {
                Err(Error::config("early_refresh", format!("the share is {share}; it must lie between 0 and 1")))
            }
            EarlyRefresh::XFetch { beta } if !(beta > 0.0 && beta.is_finite()) => {
                Err(Error::config("early_refresh", format!("beta is {beta}; it must be above 0, and is usually 1")))
            }
            _ => Ok(()),
        }
    }

    fn validate_waits(&self) -> Result<()> {
        if self.tiers.uses_remote() {
            above_zero(
                "remote_deadline",
                self.remote_deadline,
                "50 ms is usual; use `Tiers::Near` to skip the remote tier",
            )?;
        }
        above_zero("hard_timeout", self.hard_timeout, "30 s is usual")?;
        if let Some(soft) = self.soft_timeout
            && soft > self.hard_timeout
        {
            let message =
                format!("is {}, above the `hard_timeout` of {}; lower it", Span(soft), Span(self.hard_timeout));
            return Err(Error::config("soft_timeout", message));
        }
        if self.max_load < self.hard_timeout {
            let message = format!(
                "is {}, below the `hard_timeout` of {}: loads would be aborted while callers wait; raise it",
                Span(self.max_load),
                Span(self.hard_timeout)
            );
            return Err(Error::config("max_load", message));
        }
        if let Lease::Wait { bound } = self.lease {
            above_zero("lease", bound, "use `Lease::Off` for no wait")?;
        }
        Ok(())
    }
}

fn above_zero(field: &'static str, duration: Duration, advice: &str) -> Result<()> {
    if duration.is_zero() {
        return Err(Error::config(field, format!("is zero; it must be above zero ({advice})")));
    }
    Ok(())
}
