//! `#[derive(KeyPart)]`.

use proc_macro2::{Span, TokenStream};
use quote::{format_ident, quote};
use syn::{Data, DeriveInput, Field, Fields, Ident, Result, parse_quote, spanned::Spanned};

use crate::{facade, template};

pub(crate) fn expand(item: TokenStream) -> TokenStream {
    syn::parse2(item).and_then(|input| try_expand(&input)).unwrap_or_else(|error| error.to_compile_error())
}

fn try_expand(input: &DeriveInput) -> Result<TokenStream> {
    let larder = facade::path(None);
    let private = quote!(#larder::__private);
    let mut generics = input.generics.clone();
    for parameter in input.generics.type_params() {
        let name = &parameter.ident;
        generics.make_where_clause().predicates.push(parse_quote!(#name: #private::KeyPart));
    }
    let (generics, arguments, bounds) = generics.split_for_impl();
    let name = &input.ident;
    let arms = match &input.data {
        Data::Struct(data) => vec![arm(&quote!(Self), &data.fields, None)?],
        Data::Enum(data) => {
            let variants = data.variants.iter();
            variants
                .map(|variant| {
                    let ident = &variant.ident;
                    arm(&quote!(Self::#ident), &variant.fields, Some(&ident.to_string()))
                })
                .collect::<Result<_>>()?
        }
        Data::Union(data) => {
            let message = "a union cannot be part of a key: nobody knows which of its fields is meant";
            return Err(syn::Error::new(data.union_token.span, message));
        }
    };
    // A struct of one field is written as that field, so it is absent when that is.
    let nullable = transparent(&input.data)?.map_or_else(
        || quote!(false),
        |field| {
            let ty = &field.ty;
            quote!(<#ty as #private::KeyPart>::NULLABLE)
        },
    );
    let body = if arms.is_empty() { quote!(match *self {}) } else { quote!(match self { #(#arms)* }) };
    Ok(quote! {
        #[automatically_derived]
        impl #generics #private::KeyPart for #name #arguments #bounds {
            const NULLABLE: bool = #nullable;

            fn write_part(&self, __larder_key: &mut #private::KeyBuf) {
                #body
            }
        }
    })
}

/// The only field of a tuple struct of one.
fn transparent(data: &Data) -> Result<Option<&Field>> {
    let Data::Struct(data) = data else { return Ok(None) };
    let Fields::Unnamed(fields) = &data.fields else { return Ok(None) };
    match fields.unnamed.first() {
        Some(field) if fields.unnamed.len() == 1 && !is_skipped(field)? => Ok(Some(field)),
        _ => Ok(None),
    }
}

fn arm(path: &TokenStream, fields: &Fields, variant: Option<&str>) -> Result<TokenStream> {
    let mut patterns = Vec::new();
    let mut parts: Vec<Ident> = Vec::new();
    for (index, field) in fields.iter().enumerate() {
        // The field's own place, for the message about a type that has no `KeyPart`.
        let binding = format_ident!("__larder_{index}", span = field.ty.span().resolved_at(Span::call_site()));
        let skipped = is_skipped(field)?;
        let bound = if skipped { quote!(_) } else { quote!(#binding) };
        patterns.push(match &field.ident {
            Some(name) => quote!(#name: #bound),
            None => bound,
        });
        if !skipped {
            parts.push(binding);
        }
    }
    let pattern = match fields {
        Fields::Named(_) => quote!(#path { #(#patterns),* }),
        Fields::Unnamed(_) => quote!(#path(#(#patterns),*)),
        Fields::Unit => quote!(#path),
    };
    let transparent =
        variant.is_none() && fields.len() == 1 && matches!(fields, Fields::Unnamed(_)) && parts.len() == 1;
    let write = if transparent {
        let part = &parts[0];
        quote!(__larder_key.part(#part);)
    } else if let (Some(variant), true) = (variant, parts.is_empty()) {
        name(variant)
    } else {
        let head = variant.map(|variant| {
            let name = name(variant);
            quote!(#name __larder_key.push_raw("%,");)
        });
        quote! {
            __larder_key.push_raw("%(");
            #head
            #(__larder_key.part(#parts); __larder_key.push_raw("%,");)*
            __larder_key.push_raw("%)");
        }
    };
    Ok(quote!(#pattern => { #write }))
}

/// A variant's name as a part.
fn name(variant: &str) -> TokenStream {
    if template::is_plain(variant) {
        quote!(__larder_key.push_raw(#variant);)
    } else {
        quote!(__larder_key.part(#variant);)
    }
}

fn is_skipped(field: &Field) -> Result<bool> {
    let mut skipped = false;
    for attribute in field.attrs.iter().filter(|attribute| attribute.path().is_ident("key")) {
        attribute.parse_nested_meta(|meta| {
            if meta.path.is_ident("skip") {
                skipped = true;
                return Ok(());
            }
            Err(meta.error("the only option of a field is `skip`"))
        })?;
    }
    Ok(skipped)
}
