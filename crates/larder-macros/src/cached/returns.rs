//! What a function returns: which part of it is the value, and how it may fail.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{GenericArgument, PathArguments, Result, ReturnType, Type, parse_quote};

/// A return type, taken apart.
pub(crate) struct Returns {
    /// The value's type, without `Result`, `Option` and `Arc`.
    pub(crate) value: Type,
    /// The error's type.
    pub(crate) error: Option<Type>,
    pub(crate) optional: bool,
    pub(crate) shared: bool,
    /// The type of the keys, where a map of values is returned.
    pub(crate) keys: Option<Type>,
}

impl Returns {
    /// Takes a return type apart; `larder` is the path of the facade.
    pub(crate) fn of(output: &ReturnType, batch: bool, larder: &TokenStream) -> Result<Self> {
        let ReturnType::Type(_, ty) = output else {
            let message = "a function that returns nothing has nothing to cache";
            return Err(syn::Error::new_spanned(output, message));
        };
        let (mut value, mut error) = (ty.as_ref().clone(), None);
        match arguments(&value, "Result").as_deref() {
            Some([ok, err]) => {
                error = Some(err.clone());
                value = ok.clone();
            }
            // An alias such as `io::Result<T>`: the compiler knows the error.
            Some([ok]) => {
                error = Some(parse_quote!(<#ty as #larder::__private::specialise::Fallible>::Error));
                value = ok.clone();
            }
            Some(_) => return Err(syn::Error::new_spanned(ty, "name what is returned: `Result<T, E>` or `Result<T>`")),
            None => {}
        }
        let mut keys = None;
        if batch {
            let types = arguments(&value, "HashMap").unwrap_or_default();
            let [key, of] = types.as_slice() else {
                let message = "a batch returns `HashMap<K, V>` or `Result<HashMap<K, V>, E>`";
                return Err(syn::Error::new_spanned(ty, message));
            };
            keys = Some(key.clone());
            value = of.clone();
        }
        let optional = if batch { None } else { arguments(&value, "Option") };
        let optional = optional.and_then(|types| types.into_iter().next());
        let is_optional = optional.is_some();
        let value = optional.unwrap_or(value);
        let shared = arguments(&value, "Arc").and_then(|types| types.into_iter().next());
        let is_shared = shared.is_some();
        let value = shared.unwrap_or(value);
        check_value(&value)?;
        Ok(Self { value, error, optional: is_optional, shared: is_shared, keys })
    }

    /// The error's type in the flight.
    pub(crate) fn error_tokens(&self) -> TokenStream {
        self.error.as_ref().map_or_else(|| quote!(::core::convert::Infallible), |error| quote!(#error))
    }

    /// What a caller gets of a value `Arc<V>` (in an `Option` where it may be absent).
    pub(crate) fn handed_out(&self) -> TokenStream {
        let value = &self.value;
        let whole = if self.shared { quote!(::std::sync::Arc<#value>) } else { quote!(#value) };
        if self.optional { quote!(::core::option::Option<#whole>) } else { whole }
    }

    /// An expression of what a caller gets from `Option<Arc<V>>`.
    pub(crate) fn hand_out(&self, found: &TokenStream) -> TokenStream {
        let value = &self.value;
        let found = if self.shared {
            quote!(#found)
        } else {
            quote!(#found.map(|__larder_value| <#value as ::core::clone::Clone>::clone(&__larder_value)))
        };
        if self.optional {
            found
        } else {
            quote!(#found.expect("a function that always returns a value has stored one"))
        }
    }
}

fn check_value(value: &Type) -> Result<()> {
    let message = match value {
        Type::ImplTrait(_) => "`impl Trait` cannot be stored; name the type",
        Type::Reference(reference) if reference.lifetime.as_ref().is_none_or(|lifetime| lifetime.ident != "static") => {
            "a reference cannot be stored; return what it refers to, such as `String` or `Arc<T>`"
        }
        _ => return Ok(()),
    };
    Err(syn::Error::new_spanned(value, message))
}

/// The type arguments, if the type is a path that ends in `name`.
fn arguments(ty: &Type, name: &str) -> Option<Vec<Type>> {
    let ty = match ty {
        Type::Paren(paren) => paren.elem.as_ref(),
        Type::Group(group) => group.elem.as_ref(),
        other => other,
    };
    let Type::Path(path) = ty else { return None };
    let segment = path.path.segments.last().filter(|segment| segment.ident == name)?;
    let PathArguments::AngleBracketed(list) = &segment.arguments else { return Some(Vec::new()) };
    let types = list.args.iter().filter_map(|argument| match argument {
        GenericArgument::Type(ty) => Some(ty.clone()),
        _ => None,
    });
    Some(types.collect())
}
