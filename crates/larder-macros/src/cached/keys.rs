//! The key and the tags of a call.

use proc_macro2::{Ident, TokenStream};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::{GenericParam, spanned::Spanned};

use super::generate::Generator;
use crate::template;

impl Generator<'_> {
    /// Statements that append the call's part of the key to `__larder_key`.
    pub(super) fn render(&self) -> TokenStream {
        let private = &self.private;
        if let Some(template) = &self.options.key {
            return template::render(&template.pieces, &quote!(__larder_key));
        }
        if let Some(function) = &self.options.key_fn {
            let arguments = self.signature.arguments.iter().map(|argument| {
                let name = &argument.name;
                if matches!(argument.ty, syn::Type::Reference(_)) { quote!(#name) } else { quote!(&#name) }
            });
            let this = self.signature.has_self.then(|| quote!(self)).into_iter();
            let all = this.chain(arguments);
            return quote!(#private::ToKey::write_key(&(#function)(#(#all),*), __larder_key););
        }
        let owner = self.signature.has_self.then(|| quote!(#private::specialise::write_owner::<Self>(__larder_key);));
        let steps = self.parts().into_iter().enumerate().map(|(index, part)| {
            let separator = (index > 0).then(|| quote!(__larder_key.separator();));
            // The argument's own place, for the message about a type that has no `KeyPart`.
            let reference = quote_spanned!(part.span()=> &#part);
            quote!(#separator __larder_key.part(#reference);)
        });
        quote!(#owner #(#steps)*)
    }

    /// What a default key is made of: the generic parameters, `self`, the arguments.
    fn parts(&self) -> Vec<TokenStream> {
        let is_skipped = |name: &Ident| self.options.skip.contains(name);
        let generics = self.function.sig.generics.params.iter().filter_map(|parameter| match parameter {
            GenericParam::Type(ty) => {
                let name = &ty.ident;
                Some(quote!(::core::any::type_name::<#name>()))
            }
            GenericParam::Const(constant) => Some(constant.ident.to_token_stream()),
            GenericParam::Lifetime(_) => None,
        });
        let this = (self.signature.has_self && !is_skipped(&format_ident!("self"))).then(|| quote!(self));
        let arguments = self.signature.arguments.iter().map(|argument| &argument.name);
        let arguments = arguments.filter(|name| !is_skipped(name)).map(ToTokens::to_token_stream);
        generics.chain(this).chain(arguments).collect()
    }

    pub(super) fn tags(&self) -> TokenStream {
        let private = &self.private;
        let tags = self.options.tags.iter().map(|template| {
            let render = template::render(&template.pieces, &quote!(__larder_tag));
            quote!(#private::tag(|__larder_tag| { #render }))
        });
        quote!(::std::vec![#(#tags),*])
    }
}
