//! Bounds on what a decoder does, whatever the bytes and the type.
//!
//! The formats' own limits leave holes. `serde_json` and `rmp-serde` count arrays and maps, but not `Option` and newtypes,
//! which nest without taking up a byte (`struct Chain(Option<Box<Chain>>)`); postcard counts nothing, and takes any
//! number of elements that have no bytes (`Vec<()>`). So every decoder is wrapped: each step into a `Some`, a newtype, a
//! sequence, a map, a struct or an enum is counted, and each element of a sequence or map is charged against the
//! number of bytes.
//!
//! Not covered: such a type without any structure, inside `#[serde(untagged)]` or `flatten`, where serde decodes from its
//! own buffer.

use std::{cell::Cell, fmt};

use serde::de::{DeserializeSeed, Deserializer, EnumAccess, Error, MapAccess, SeqAccess, VariantAccess, Visitor};

/// How deep values nest: a struct, a sequence, a map, an enum, a `Some` and a newtype are a level each, a variant with
/// several fields is two. The number is `serde_json`'s own.
pub(crate) const MAX_DEPTH: usize = 127;

/// What a decoder may still use up.
#[derive(Debug)]
pub(crate) struct Budget {
    elements: Cell<u64>,
    exceeded: Cell<Option<&'static str>>,
}

impl Budget {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self { elements: Cell::new(bytes.len() as u64), exceeded: Cell::new(None) }
    }

    /// Which bound was reached, if one was.
    pub(crate) fn exceeded(&self) -> Option<&'static str> {
        self.exceeded.get()
    }

    /// A decoder within these bounds.
    pub(crate) fn guard<D>(&self, decoder: D) -> Bounded<'_, D> {
        Bounded { inner: decoder, depth: 0, counted: true, budget: self }
    }
}

/// A part of serde's machinery within bounds: a deserializer, a visitor, a seed or an access.
pub(crate) struct Bounded<'b, T> {
    inner: T,
    depth: usize,
    /// Whether a sequence's elements are charged. Those of a tuple are not: the type says how many there are.
    counted: bool,
    budget: &'b Budget,
}

impl<'b, T> Bounded<'b, T> {
    fn with<U>(&self, inner: U) -> Bounded<'b, U> {
        Bounded { inner, depth: self.depth, counted: true, budget: self.budget }
    }

    fn fixed<U>(&self, inner: U) -> Bounded<'b, U> {
        Bounded { counted: false, ..self.with(inner) }
    }

    fn deeper<U, E: Error>(&self, inner: U) -> Result<Bounded<'b, U>, E> {
        if self.depth >= MAX_DEPTH {
            return Err(self.exceed("it is nested too deeply"));
        }
        Ok(Bounded { inner, depth: self.depth + 1, counted: self.counted, budget: self.budget })
    }

    fn exceed<E: Error>(&self, reason: &'static str) -> E {
        self.budget.exceeded.set(Some(reason));
        E::custom(reason)
    }

    fn charge<E: Error>(&self) -> Result<(), E> {
        if !self.counted {
            return Ok(());
        }
        let left = self.budget.elements.get();
        let left = left.checked_sub(1).ok_or_else(|| self.exceed("it has more elements than bytes"))?;
        self.budget.elements.set(left);
        Ok(())
    }
}

macro_rules! pass_on {
    ($($method:ident),*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
            let visitor = self.with(visitor);
            self.inner.$method(visitor)
        }
    )*};
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Bounded<'_, D> {
    type Error = D::Error;

    pass_on!(
        deserialize_any,
        deserialize_bool,
        deserialize_i8,
        deserialize_i16,
        deserialize_i32,
        deserialize_i64,
        deserialize_i128,
        deserialize_u8,
        deserialize_u16,
        deserialize_u32,
        deserialize_u64,
        deserialize_u128,
        deserialize_f32,
        deserialize_f64,
        deserialize_char,
        deserialize_str,
        deserialize_string,
        deserialize_bytes,
        deserialize_byte_buf,
        deserialize_option,
        deserialize_unit,
        deserialize_seq,
        deserialize_map,
        deserialize_identifier,
        deserialize_ignored_any
    );

    fn deserialize_unit_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, D::Error> {
        let visitor = self.with(visitor);
        self.inner.deserialize_unit_struct(name, visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, D::Error> {
        let visitor = self.with(visitor);
        self.inner.deserialize_newtype_struct(name, visitor)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, D::Error> {
        let visitor = self.fixed(visitor);
        self.inner.deserialize_tuple(length, visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        let visitor = self.fixed(visitor);
        self.inner.deserialize_tuple_struct(name, length, visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        let visitor = self.fixed(visitor);
        self.inner.deserialize_struct(name, fields, visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        let visitor = self.with(visitor);
        self.inner.deserialize_enum(name, variants, visitor)
    }

    fn is_human_readable(&self) -> bool {
        self.inner.is_human_readable()
    }
}

macro_rules! visit {
    ($($method:ident($type:ty)),*) => {$(
        fn $method<E: Error>(self, value: $type) -> Result<V::Value, E> {
            self.inner.$method(value)
        }
    )*};
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Bounded<'_, V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.expecting(f)
    }

    visit!(
        visit_bool(bool),
        visit_i8(i8),
        visit_i16(i16),
        visit_i32(i32),
        visit_i64(i64),
        visit_i128(i128),
        visit_u8(u8),
        visit_u16(u16),
        visit_u32(u32),
        visit_u64(u64),
        visit_u128(u128),
        visit_f32(f32),
        visit_f64(f64),
        visit_char(char),
        visit_str(&str),
        visit_borrowed_str(&'de str),
        visit_string(String),
        visit_bytes(&[u8]),
        visit_borrowed_bytes(&'de [u8]),
        visit_byte_buf(Vec<u8>)
    );

    fn visit_none<E: Error>(self) -> Result<V::Value, E> {
        self.inner.visit_none()
    }

    fn visit_unit<E: Error>(self) -> Result<V::Value, E> {
        self.inner.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, decoder: D) -> Result<V::Value, D::Error> {
        let decoder = self.deeper(decoder)?;
        self.inner.visit_some(decoder)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, decoder: D) -> Result<V::Value, D::Error> {
        let decoder = self.deeper(decoder)?;
        self.inner.visit_newtype_struct(decoder)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, access: A) -> Result<V::Value, A::Error> {
        let access = self.deeper(access)?;
        self.inner.visit_seq(access)
    }

    fn visit_map<A: MapAccess<'de>>(self, access: A) -> Result<V::Value, A::Error> {
        let access = self.deeper(access)?;
        self.inner.visit_map(access)
    }

    fn visit_enum<A: EnumAccess<'de>>(self, access: A) -> Result<V::Value, A::Error> {
        let access = self.deeper(access)?;
        self.inner.visit_enum(access)
    }
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Bounded<'_, S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, decoder: D) -> Result<S::Value, D::Error> {
        let decoder = self.with(decoder);
        self.inner.deserialize(decoder)
    }
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Bounded<'_, A> {
    type Error = A::Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        let seed = self.with(seed);
        let element = self.inner.next_element_seed(seed)?;
        if element.is_some() {
            self.charge()?;
        }
        Ok(element)
    }

    fn size_hint(&self) -> Option<usize> {
        self.inner.size_hint()
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Bounded<'_, A> {
    type Error = A::Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        let seed = self.with(seed);
        let key = self.inner.next_key_seed(seed)?;
        if key.is_some() {
            self.charge()?;
        }
        Ok(key)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        let seed = self.with(seed);
        self.inner.next_value_seed(seed)
    }

    fn size_hint(&self) -> Option<usize> {
        self.inner.size_hint()
    }
}

impl<'de, 'b, A: EnumAccess<'de>> EnumAccess<'de> for Bounded<'b, A> {
    type Error = A::Error;
    type Variant = Bounded<'b, A::Variant>;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self::Variant), A::Error> {
        let (depth, counted, budget) = (self.depth, self.counted, self.budget);
        let seed = self.with(seed);
        let (value, inner) = self.inner.variant_seed(seed)?;
        Ok((value, Bounded { inner, depth, counted, budget }))
    }
}

impl<'de, A: VariantAccess<'de>> VariantAccess<'de> for Bounded<'_, A> {
    type Error = A::Error;

    fn unit_variant(self) -> Result<(), A::Error> {
        self.inner.unit_variant()
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, A::Error> {
        let seed = self.with(seed);
        self.inner.newtype_variant_seed(seed)
    }

    fn tuple_variant<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, A::Error> {
        let visitor = self.fixed(visitor);
        self.inner.tuple_variant(length, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, A::Error> {
        let visitor = self.fixed(visitor);
        self.inner.struct_variant(fields, visitor)
    }
}
