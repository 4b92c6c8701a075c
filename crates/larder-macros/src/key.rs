//! `key!`.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{
    Expr, LitStr, Result, Token,
    parse::{Parse, ParseStream},
    punctuated::Punctuated,
};

use crate::{
    facade,
    template::{self, Piece},
};

struct Input {
    template: LitStr,
    arguments: Punctuated<Expr, Token![,]>,
}

impl Parse for Input {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let template = input.parse()?;
        let arguments = if input.parse::<Option<Token![,]>>()?.is_some() {
            Punctuated::parse_terminated(input)?
        } else {
            Punctuated::new()
        };
        Ok(Self { template, arguments })
    }
}

pub(crate) fn expand(input: TokenStream) -> TokenStream {
    try_expand(input).unwrap_or_else(|error| error.to_compile_error())
}

fn try_expand(input: TokenStream) -> Result<TokenStream> {
    let Input { template, arguments } = syn::parse2(input)?;
    let mut pieces = template::parse(&template)?;
    let mut given = arguments.iter();
    for piece in &mut pieces {
        if let Piece::Hole(hole) = piece
            && hole.expr.is_none()
        {
            let argument = given.next().ok_or_else(|| {
                syn::Error::new(template.span(), "there are more `{}` than arguments behind the template")
            })?;
            hole.expr = Some(argument.clone());
        }
    }
    if let Some(left) = given.next() {
        return Err(syn::Error::new_spanned(left, "an argument that no `{}` takes"));
    }
    let larder = facade::path(None);
    let render = template::render(&pieces, &quote!(__larder_key));
    Ok(quote!({
        let mut __larder_key = #larder::__private::KeyBuf::new();
        #render
        __larder_key.finish();
        __larder_key
    }))
}
