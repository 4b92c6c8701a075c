//! What stands in the parentheses of `#[cached(..)]`.

use std::collections::HashSet;

use proc_macro2::{Ident, TokenStream};
use quote::quote;
use syn::{
    Expr, ExprArray, ExprLit, ExprPath, Lit, LitStr, Path, Result, Token,
    ext::IdentExt,
    parse::{Parse, ParseStream, Parser},
    punctuated::Punctuated,
};

use crate::{
    duration,
    errors::{Errors, meant},
    template::{self, Piece},
};

const KNOWN: [&str; 20] = [
    "strategy",
    "ttl",
    "stale",
    "jitter",
    "key",
    "key_fn",
    "skip",
    "region",
    "tags",
    "condition",
    "cache_none",
    "negative_ttl",
    "hard_timeout",
    "version",
    "near",
    "inline",
    "batch",
    "cache",
    "companion",
    "crate",
];

const PRESETS: [&str; 4] = ["api_response", "database_query", "indicator", "session"];

/// A template with its place.
pub(crate) struct Template {
    pub(crate) literal: LitStr,
    pub(crate) pieces: Vec<Piece>,
}

#[derive(Default)]
pub(crate) struct Options {
    pub(crate) strategy: Option<Expr>,
    pub(crate) ttl: Option<TokenStream>,
    pub(crate) stale: Option<TokenStream>,
    pub(crate) jitter: Option<Expr>,
    pub(crate) key: Option<Template>,
    pub(crate) key_fn: Option<Expr>,
    pub(crate) skip: Vec<Ident>,
    pub(crate) region: Option<LitStr>,
    pub(crate) tags: Vec<Template>,
    pub(crate) condition: Option<Expr>,
    /// For how long; as long as a value, if that is not said.
    pub(crate) cache_none: Option<(Ident, Option<TokenStream>)>,
    pub(crate) negative_ttl: Option<(Ident, TokenStream)>,
    pub(crate) hard_timeout: Option<(Ident, TokenStream)>,
    pub(crate) version: Option<Expr>,
    pub(crate) near: Option<Ident>,
    pub(crate) inline: Option<Ident>,
    pub(crate) batch: Option<Ident>,
    pub(crate) cache: Option<Expr>,
    pub(crate) companion: Option<Ident>,
    pub(crate) krate: Option<Path>,
}

/// One option as it is written.
struct Written {
    name: Ident,
    value: Value,
}

enum Value {
    None,
    Expr(Expr),
    List(Vec<Ident>),
}

impl Parse for Written {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let name = input.call(Ident::parse_any)?;
        let value = if input.parse::<Option<Token![=]>>()?.is_some() {
            if name == "crate" { Value::Expr(path(input)?) } else { Value::Expr(input.parse()?) }
        } else if input.peek(syn::token::Paren) {
            let inside;
            syn::parenthesized!(inside in input);
            let names = inside.parse_terminated(Ident::parse_any, Token![,])?;
            Value::List(names.into_iter().collect())
        } else {
            Value::None
        };
        Ok(Self { name, value })
    }
}

/// `crate = crate` is a path too.
fn path(input: ParseStream<'_>) -> Result<Expr> {
    let path = input
        .call(Path::parse_mod_style)
        .map_err(|error| syn::Error::new(error.span(), "`crate` takes a path, such as `crate = ::larder`"))?;
    Ok(Expr::Path(ExprPath { attrs: Vec::new(), qself: None, path }))
}

impl Options {
    pub(crate) fn parse(tokens: TokenStream, errors: &mut Errors) -> Self {
        let mut options = Self::default();
        let Some(written) = errors.ok(Punctuated::<Written, Token![,]>::parse_terminated.parse2(tokens)) else {
            return options;
        };
        let mut seen = HashSet::new();
        for option in written {
            let name = option.name.to_string();
            if !seen.insert(name.clone()) {
                errors.at(&option.name, format!("`{name}` is given twice"));
                continue;
            }
            let result = options.take(&name, option);
            errors.ok(result);
        }
        options.check(errors);
        options
    }

    fn take(&mut self, name: &str, option: Written) -> Result<()> {
        let Written { name: ident, value } = option;
        match name {
            "strategy" => self.strategy = Some(expr(&ident, value)?),
            "ttl" => self.ttl = Some(duration::tokens(&expr(&ident, value)?)?),
            "stale" => self.stale = Some(duration::tokens(&expr(&ident, value)?)?),
            "jitter" => self.jitter = Some(jitter(expr(&ident, value)?)?),
            "key" => self.key = Some(template(text(&ident, value)?)?),
            "key_fn" => self.key_fn = Some(expr(&ident, value)?),
            "skip" => self.skip = names(&ident, value)?,
            "region" => self.region = Some(region(text(&ident, value)?)?),
            "tags" => self.tags = tags(&ident, value)?,
            "condition" => self.condition = Some(expr(&ident, value)?),
            "cache_none" => {
                self.cache_none = Some(match value {
                    Value::None => (ident, None),
                    value => timed(ident, value, "cache_none").map(|(name, ttl)| (name, Some(ttl)))?,
                });
            }
            "negative_ttl" => self.negative_ttl = Some(timed(ident, value, "negative_ttl")?),
            "hard_timeout" => self.hard_timeout = Some(timed(ident, value, "hard_timeout")?),
            "version" => self.version = Some(expr(&ident, value)?),
            "near" => self.near = Some(flag(ident, &value)?),
            "inline" => self.inline = Some(flag(ident, &value)?),
            "batch" => self.batch = Some(flag(ident, &value)?),
            "cache" => self.cache = Some(expr(&ident, value)?),
            "companion" => self.companion = Some(name_of(&ident, value)?),
            "crate" => match expr(&ident, value)? {
                Expr::Path(path) => self.krate = Some(path.path),
                other => {
                    return Err(syn::Error::new_spanned(other, "`crate` takes a path, such as `crate = ::larder`"));
                }
            },
            unknown => {
                let hint = meant(unknown, &KNOWN).map_or_else(
                    || format!("there are {}", KNOWN.join(", ")),
                    |name| format!("did you mean `{name}`?"),
                );
                return Err(syn::Error::new_spanned(&ident, format!("there is no option `{unknown}`; {hint}")));
            }
        }
        Ok(())
    }

    fn check(&self, errors: &mut Errors) {
        if let (Some(batch), Some(_)) = (&self.batch, &self.inline) {
            errors.at(batch, "`batch` and `inline` exclude each other: callers share a batch's load");
        }
        if let (Some(batch), Some(_)) = (&self.batch, &self.key_fn) {
            errors.at(batch, "`batch` needs a `key` with the list's name as the place of one key, or the default key");
        }
        if let (Some(key), Some(_)) = (&self.key, &self.key_fn) {
            errors.at(&key.literal, "`key` and `key_fn` exclude each other: give one of them");
        }
        if let (Some(skipped), true) = (self.skip.first(), self.key.is_some() || self.key_fn.is_some()) {
            errors.at(
                skipped,
                "`skip` is for default keys: with `key` or `key_fn` an argument is in the key only if it is named",
            );
        }
    }

    /// The strategy as an expression.
    pub(crate) fn strategy_tokens(&self, private: &TokenStream) -> TokenStream {
        let mut tokens = match &self.strategy {
            None => quote!(#private::Strategy::new("fn", ::core::time::Duration::from_secs(300))),
            Some(Expr::Path(path)) => named_strategy(&path.path, private),
            Some(other) => quote!(#other),
        };
        if let Some(ttl) = &self.ttl {
            tokens = quote!(#tokens.ttl(#ttl));
        }
        if let Some(stale) = &self.stale {
            tokens = quote!(#private::with_stale(#tokens, #stale));
        }
        if let Some(jitter) = &self.jitter {
            tokens = quote!(#tokens.jitter(#jitter));
        }
        if let Some((_, ttl)) = &self.cache_none {
            tokens = match ttl {
                Some(ttl) => quote!(#tokens.cache_none(::core::option::Option::Some(#ttl))),
                None => quote!({
                    let __larder_strategy = #tokens;
                    let __larder_ttl = __larder_strategy.ttl;
                    __larder_strategy.cache_none(::core::option::Option::Some(__larder_ttl))
                }),
            };
        }
        if let Some((_, ttl)) = &self.negative_ttl {
            tokens = quote!(#tokens.negative_ttl(::core::option::Option::Some(#ttl)));
        }
        if let Some((_, limit)) = &self.hard_timeout {
            tokens = quote!(#private::with_hard_timeout(#tokens, #limit));
        }
        if let Some(version) = &self.version {
            tokens = quote!(#tokens.version(#version));
        }
        tokens
    }
}

/// A preset by its name, a constant by its capitals, any other path as a function.
fn named_strategy(path: &Path, private: &TokenStream) -> TokenStream {
    if let Some(preset) = path.get_ident().filter(|name| PRESETS.iter().any(|preset| *name == preset)) {
        return quote!(#private::presets::#preset());
    }
    let last = path.segments.last().map(|segment| segment.ident.to_string()).unwrap_or_default();
    if last.chars().any(char::is_lowercase) { quote!(#path()) } else { quote!(::core::clone::Clone::clone(&#path)) }
}

fn expr(name: &Ident, value: Value) -> Result<Expr> {
    match value {
        Value::Expr(expr) => Ok(expr),
        Value::None | Value::List(_) => Err(syn::Error::new_spanned(name, format!("write `{name} = ..`"))),
    }
}

fn text(name: &Ident, value: Value) -> Result<LitStr> {
    match expr(name, value)? {
        Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => Ok(text),
        other => {
            Err(syn::Error::new_spanned(other, format!("`{name}` takes a text, such as `{name} = \"user:{{id}}\"`")))
        }
    }
}

fn timed(name: Ident, value: Value, option: &str) -> Result<(Ident, TokenStream)> {
    match value {
        Value::Expr(value) => Ok((name, duration::tokens(&value)?)),
        Value::None | Value::List(_) => {
            Err(syn::Error::new_spanned(&name, format!("say for how long: `{option} = \"10s\"`")))
        }
    }
}

fn flag(name: Ident, value: &Value) -> Result<Ident> {
    match value {
        Value::None => Ok(name),
        Value::Expr(_) | Value::List(_) => {
            Err(syn::Error::new_spanned(&name, format!("`{name}` takes no value: its presence is enough")))
        }
    }
}

fn names(name: &Ident, value: Value) -> Result<Vec<Ident>> {
    match value {
        Value::List(names) if !names.is_empty() => Ok(names),
        _ => Err(syn::Error::new_spanned(name, "name the arguments: `skip(db, context)`")),
    }
}

fn name_of(name: &Ident, value: Value) -> Result<Ident> {
    let expr = expr(name, value)?;
    let ident = match &expr {
        Expr::Path(path) => path.path.get_ident().cloned(),
        _ => None,
    };
    ident.ok_or_else(|| syn::Error::new_spanned(expr, "`companion` takes a name, such as `companion = ticker_cache`"))
}

fn template(literal: LitStr) -> Result<Template> {
    let pieces = template::parse(&literal)?;
    if let Some(Piece::Hole(_)) = pieces.iter().find(|piece| matches!(piece, Piece::Hole(hole) if hole.expr.is_none()))
    {
        return Err(syn::Error::new(literal.span(), "`{}` needs the name of an argument, such as `{id}`"));
    }
    if pieces.is_empty() {
        return Err(syn::Error::new(literal.span(), "a key needs a text, such as \"user:{id}\""));
    }
    Ok(Template { literal, pieces })
}

/// `larder_core::MAX_TAGS`, which this crate cannot see.
const MOST_TAGS: usize = 64;

fn tags(name: &Ident, value: Value) -> Result<Vec<Template>> {
    let expr = expr(name, value)?;
    let Expr::Array(ExprArray { elems, .. }) = &expr else {
        return Err(syn::Error::new_spanned(expr, "`tags` takes a list, such as `tags = [\"user:{id}\"]`"));
    };
    if elems.len() > MOST_TAGS {
        let message = format!("{} tags; an entry carries at most {MOST_TAGS}: use fewer, coarser ones", elems.len());
        return Err(syn::Error::new_spanned(expr, message));
    }
    elems
        .iter()
        .map(|element| match element {
            Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => template(text.clone()),
            other => Err(syn::Error::new_spanned(other, "a tag is a text, such as \"user:{id}\"")),
        })
        .collect()
}

fn region(literal: LitStr) -> Result<LitStr> {
    let text = literal.value();
    if text.is_empty() || text.starts_with(':') || text.ends_with(':') || text.contains(['{', '}']) {
        let message = format!("{text:?} is no region; write a path such as \"api\" or \"api:binance\"");
        return Err(syn::Error::new(literal.span(), message));
    }
    Ok(literal)
}

fn jitter(value: Expr) -> Result<Expr> {
    if let Expr::Lit(ExprLit { lit, .. }) = &value {
        let share = match lit {
            Lit::Float(number) => number.base10_parse::<f64>()?,
            Lit::Int(number) => number.base10_parse::<f64>()?,
            _ => f64::NAN,
        };
        if !(0.0..=0.5).contains(&share) {
            return Err(syn::Error::new_spanned(lit, "`jitter` is a share of the TTL, 0.0 to 0.5"));
        }
        return Ok(syn::parse_quote!(#share));
    }
    Ok(value)
}
