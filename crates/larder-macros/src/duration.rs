//! Durations as text: `30s`, `1h30m`.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Expr, ExprLit, Lit, LitStr, Result};

const UNITS: [(&str, u64); 5] = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// A text becomes a constant, anything else is taken as an expression of type `Duration`.
pub(crate) fn tokens(value: &Expr) -> Result<TokenStream> {
    let Expr::Lit(ExprLit { lit, .. }) = value else { return Ok(quote!(#value)) };
    let Lit::Str(text) = lit else {
        let message = "a duration needs a unit: write \"30s\", \"500ms\" or an expression of type `Duration`";
        return Err(syn::Error::new_spanned(lit, message));
    };
    let millis = millis(text)?;
    Ok(quote!(::core::time::Duration::from_millis(#millis)))
}

fn millis(literal: &LitStr) -> Result<u64> {
    let text = literal.value();
    parse(&text).ok_or_else(|| {
        let message = format!(
            "{text:?} is no duration; write a number and a unit (ms, s, m, h, d), such as \"30s\" or \"1h30m\""
        );
        syn::Error::new(literal.span(), message)
    })
}

fn parse(text: &str) -> Option<u64> {
    let mut rest = text.trim();
    if rest.is_empty() {
        return None;
    }
    let mut millis: u64 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|character: char| !character.is_ascii_digit())?;
        let number: u64 = rest[..digits].parse().ok()?;
        let unit_text = rest[digits..].trim_start();
        let end = unit_text.find(|character: char| !character.is_ascii_alphabetic()).unwrap_or(unit_text.len());
        let (_, factor) = UNITS.iter().find(|(unit, _)| *unit == &unit_text[..end])?;
        millis = millis.checked_add(number.checked_mul(*factor)?)?;
        rest = unit_text[end..].trim_start();
    }
    Some(millis)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn durations_are_numbers_with_units() {
        assert_eq!(parse("30s"), Some(30_000));
        assert_eq!(parse("1h30m"), Some(5_400_000));
        assert_eq!(parse("2d 500ms"), Some(172_800_500));
        for wrong in ["", "30", "s", "30 parsecs", "-1s", "1.5s", "99999999999999999999d"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
