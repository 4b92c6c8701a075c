//! The function's arguments, and what its key is made of.

use proc_macro2::{Ident, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::{FnArg, ItemFn, Lifetime, Pat, PatType, Type, TypeReference};

use super::{options::Options, returns::Returns};
use crate::{errors::Errors, facade, template::Piece};

/// One argument.
pub(crate) struct Argument {
    pub(crate) name: Ident,
    pub(crate) ty: Type,
}

impl Argument {
    /// What a loader that outlives the call owns of it, and how it gives it to the function again.
    pub(crate) fn owned(&self, private: &TokenStream) -> (TokenStream, TokenStream) {
        let name = &self.name;
        let held = format_ident!("__larder_held_{}", name);
        match &self.ty {
            Type::Reference(TypeReference { elem, mutability: None, lifetime, .. })
                if !is_static(lifetime.as_ref()) =>
            {
                (
                    quote!(let #held = <#elem as ::std::borrow::ToOwned>::to_owned(#name);),
                    quote!(::core::borrow::Borrow::<#elem>::borrow(&#held)),
                )
            }
            _ => {
                let copy = self.copied(private);
                (quote!(let #held = #copy;), quote!(#held))
            }
        }
    }

    /// A copy of it, for a function that takes it by value. The message about a missing `Clone` stands at the argument.
    pub(crate) fn copied(&self, private: &TokenStream) -> TokenStream {
        let name = &self.name;
        quote_spanned!(name.span()=> #private::specialise::hold(&#name))
    }
}

pub(crate) struct Signature {
    pub(crate) is_async: bool,
    pub(crate) has_self: bool,
    pub(crate) arguments: Vec<Argument>,
    pub(crate) returns: Option<Returns>,
    /// The argument that lists the keys of a batch.
    pub(crate) list: Option<Ident>,
}

impl Signature {
    pub(crate) fn new(function: &ItemFn, options: &Options, errors: &mut Errors) -> Self {
        let sig = &function.sig;
        for (keyword, present) in [
            (quote_at(&sig.constness), sig.constness.is_some()),
            (quote_at(&sig.safety), matches!(sig.safety, syn::Safety::Unsafe(_))),
            (quote_at(&sig.abi), sig.abi.is_some()),
        ] {
            if present {
                errors.at(&keyword, format!("`{keyword}` functions cannot be cached"));
            }
        }
        let mut signature = Self {
            is_async: sig.asyncness.is_some(),
            has_self: false,
            arguments: Vec::new(),
            returns: None,
            list: None,
        };
        for input in &sig.inputs {
            signature.argument(input, errors);
        }
        signature.returns =
            errors.ok(Returns::of(&sig.output, options.batch.is_some(), &facade::path(options.krate.as_ref())));
        signature.find_list(options, errors);
        signature.check_names(options, errors);
        signature.check_options(options, errors);
        signature
    }

    fn find_list(&mut self, options: &Options, errors: &mut Errors) {
        let Some(batch) = &options.batch else { return };
        if !self.is_async {
            errors.at(batch, "a batch is an `async fn`");
        }
        let lists: Vec<&Argument> = self.arguments.iter().filter(|argument| is_list(&argument.ty)).collect();
        match lists.as_slice() {
            [list] => self.list = Some(list.name.clone()),
            [] => errors.at(batch, "a batch takes its keys as a slice of owned values, such as `&[String]`"),
            _ => errors.at(batch, "a batch takes one slice: that of its keys"),
        }
    }

    fn argument(&mut self, input: &FnArg, errors: &mut Errors) {
        match input {
            FnArg::Receiver(receiver) if !matches!(receiver.kind, syn::ReceiverKind::Reference(_, _, None)) => {
                errors.at(receiver, "a cached method takes `&self`: a cached call does not run, so it can neither take nor change the object");
            }
            FnArg::Receiver(_) => self.has_self = true,
            FnArg::Typed(PatType { pat, ty, .. }) => match (pat.as_ref(), ty.as_ref()) {
                (_, Type::ImplTrait(_)) => {
                    errors.at(
                        ty,
                        "`impl Trait` arguments cannot be cached; write a generic parameter, such as `T: Trait`",
                    );
                }
                (_, Type::Reference(reference)) if reference.mutability.is_some() => {
                    errors.at(
                        ty,
                        "a `&mut` argument cannot be cached: a cached call does not run, so it changes nothing",
                    );
                }
                (Pat::Ident(name), _) if name.subpat.is_none() => {
                    self.arguments.push(Argument { name: name.ident.clone(), ty: ty.as_ref().clone() });
                }
                _ => errors.at(pat, "give the argument a name: a pattern cannot be part of a key"),
            },
        }
    }

    fn check_names(&self, options: &Options, errors: &mut Errors) {
        let mut known: Vec<String> = self.arguments.iter().map(|argument| argument.name.to_string()).collect();
        if self.has_self {
            known.push("self".to_owned());
        }
        let list = if known.is_empty() { "it has none".to_owned() } else { format!("it has {}", known.join(", ")) };
        for template in options.key.iter().chain(&options.tags) {
            for piece in &template.pieces {
                if let Piece::Hole(hole) = piece
                    && !known.contains(&hole.root)
                {
                    errors.at(&template.literal, format!("the function has no argument `{}`; {list}", hole.root));
                }
            }
        }
        for skipped in &options.skip {
            if !known.contains(&skipped.to_string()) {
                errors.at(skipped, format!("the function has no argument `{skipped}`; {list}"));
            }
        }
    }

    fn check_options(&self, options: &Options, errors: &mut Errors) {
        if let (false, Some(inline)) = (self.is_async, &options.inline) {
            errors.at(inline, "a plain function always runs in its caller; leave `inline` out");
        }
        if let (false, Some((name, _))) = (self.is_async, &options.hard_timeout) {
            errors.at(name, "a plain function cannot be timed out; make it `async`, or leave `hard_timeout` out");
        }
        let Some(returns) = &self.returns else { return };
        if let (None, Some((name, _))) = (&returns.error, &options.negative_ttl) {
            errors.at(name, "only a function that returns `Result<T, E>` has errors to remember");
        }
        if let (None, Some((name, _))) = (&returns.error, &options.hard_timeout) {
            errors.at(name, "only a function that returns `Result<T, E>` can tell a time-out");
        }
        if let (false, Some((name, _))) = (returns.optional || options.batch.is_some(), &options.cache_none) {
            errors.at(name, "only a function that returns `Option<T>` has a `None` to cache");
        }
    }
}

/// A slice whose items can be kept.
fn is_list(ty: &Type) -> bool {
    let Type::Reference(reference) = ty else { return false };
    let Type::Slice(slice) = reference.elem.as_ref() else { return false };
    match slice.elem.as_ref() {
        Type::Reference(item) => is_static(item.lifetime.as_ref()),
        _ => true,
    }
}

/// Such a reference needs no owner.
fn is_static(lifetime: Option<&Lifetime>) -> bool {
    lifetime.is_some_and(|lifetime| lifetime.ident == "static")
}

fn quote_at(tokens: &impl quote::ToTokens) -> TokenStream {
    quote!(#tokens)
}
