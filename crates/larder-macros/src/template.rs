//! Key templates: `user:{id}:{user.name}`.

use proc_macro2::{Span, TokenStream};
use quote::quote;
use syn::{Expr, LitStr, Result};

/// A piece of a template.
pub(crate) enum Piece {
    /// Text as it stands; `:` separates.
    Literal(String),
    /// Something put in.
    Hole(Hole),
}

pub(crate) struct Hole {
    /// The first name, such as `user` of `user.name`.
    pub(crate) root: String,
    /// `None` for `{}`, the next positional argument.
    pub(crate) expr: Option<Expr>,
}

/// Takes a template apart.
pub(crate) fn parse(literal: &LitStr) -> Result<Vec<Piece>> {
    let text = literal.value();
    let mut pieces = Vec::new();
    let mut plain = String::new();
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '{' if characters.peek() == Some(&'{') => {
                characters.next();
                plain.push('{');
            }
            '}' if characters.peek() == Some(&'}') => {
                characters.next();
                plain.push('}');
            }
            '{' => {
                if !plain.is_empty() {
                    pieces.push(Piece::Literal(std::mem::take(&mut plain)));
                }
                let mut inside = String::new();
                loop {
                    match characters.next() {
                        Some('}') => break,
                        Some(character) => inside.push(character),
                        None => {
                            return Err(syn::Error::new(
                                literal.span(),
                                "a `{` is not closed; a brace itself is written `{{`",
                            ));
                        }
                    }
                }
                pieces.push(Piece::Hole(hole(&inside, literal.span())?));
            }
            '}' => return Err(syn::Error::new(literal.span(), "a `}` closes nothing; a brace itself is written `}}`")),
            other => plain.push(other),
        }
    }
    if !plain.is_empty() {
        pieces.push(Piece::Literal(plain));
    }
    Ok(pieces)
}

fn hole(inside: &str, span: Span) -> Result<Hole> {
    let text = inside.trim().to_owned();
    if text.is_empty() {
        return Ok(Hole { root: String::new(), expr: None });
    }
    let wrong = || {
        let message = format!("`{{{text}}}` is not a name or a path of fields, such as `{{id}}` or `{{user.id}}`");
        syn::Error::new(span, message)
    };
    let mut names = text.split('.').map(str::trim);
    let root = names.next().unwrap_or_default().to_owned();
    let is_name = |name: &str| name == "self" || syn::parse_str::<syn::Ident>(name).is_ok();
    if !is_name(&root)
        || !names.all(|name| is_name(name) || (!name.is_empty() && name.bytes().all(|b| b.is_ascii_digit())))
    {
        return Err(wrong());
    }
    let tokens: TokenStream = text.parse().map_err(|_| wrong())?;
    let tokens: TokenStream = tokens
        .into_iter()
        .map(|mut token| {
            token.set_span(span);
            token
        })
        .collect();
    let expr = syn::parse2::<Expr>(tokens).map_err(|_| wrong())?;
    Ok(Hole { root, expr: Some(expr) })
}

/// Statements that render a template into `buffer`.
pub(crate) fn render(pieces: &[Piece], buffer: &TokenStream) -> TokenStream {
    let steps = pieces.iter().map(|piece| match piece {
        // No scan for escapes at run time where there is certainly none.
        Piece::Literal(text) if is_plain(text) => quote!(#buffer.push_raw(#text);),
        Piece::Literal(text) => quote!(#buffer.path(#text);),
        Piece::Hole(hole) => {
            let expr = &hole.expr;
            quote!(#buffer.part(&(#expr));)
        }
    });
    quote!(#(#steps)*)
}

/// Whether a text holds only characters that no key escapes.
pub(crate) fn is_plain(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b':' | b'_' | b'-' | b'.'))
}

/// The template's text without the doubling of braces.
pub(crate) fn plain(pieces: &[Piece]) -> String {
    let texts = pieces.iter().map(|piece| match piece {
        Piece::Literal(text) => text.clone(),
        Piece::Hole(hole) => format!("{{{}}}", hole.root),
    });
    texts.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(template: &str) -> std::result::Result<String, String> {
        let pieces = parse(&LitStr::new(template, Span::call_site())).map_err(|error| error.to_string())?;
        Ok(pieces
            .iter()
            .map(|piece| match piece {
                Piece::Literal(text) => format!("<{text}>"),
                Piece::Hole(hole) => format!("({})", hole.root),
            })
            .collect())
    }

    #[test]
    fn templates_are_taken_apart() {
        assert_eq!(shape("user:{id}:{user.name}").unwrap(), "<user:>(id)<:>(user)");
        assert_eq!(shape("{{{id}}}").unwrap(), "<{>(id)<}>");
        assert_eq!(shape("").unwrap(), "");
        assert!(shape("a{id").unwrap_err().contains("not closed"));
        assert!(shape("a}").unwrap_err().contains("closes nothing"));
        assert!(shape("{a+b}").unwrap_err().contains("not a name"));
    }
}
