//! `#[cached]`.

mod batch;
mod companion;
mod generate;
mod keys;
mod loading;
mod options;
mod returns;
mod signature;

use proc_macro2::TokenStream;
use syn::{ItemFn, Result};

use self::{generate::Generator, options::Options, signature::Signature};
use crate::errors::{Errors, with_item};

pub(crate) fn expand(options: TokenStream, item: &TokenStream) -> TokenStream {
    try_expand(options, item.clone()).unwrap_or_else(|error| with_item(item, &error))
}

fn try_expand(options: TokenStream, item: TokenStream) -> Result<TokenStream> {
    let function: ItemFn = syn::parse2(item).map_err(|error| {
        syn::Error::new(error.span(), format!("`#[cached]` goes on a function or a method with a body ({error})"))
    })?;
    let mut errors = Errors::default();
    let options = Options::parse(options, &mut errors);
    let signature = Signature::new(&function, &options, &mut errors);
    errors.into_result()?;
    Ok(Generator::new(&function, &options, &signature).tokens())
}
