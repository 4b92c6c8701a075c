//! Looks at a value before it is encoded, and refuses what would not come back as it was.
//!
//! The formats lose things silently: JSON and MessagePack write `Some(None)` and `Some(())` as they write `None`, JSON
//! writes a NaN as `null`, postcard cannot tell that a field was skipped. A marker of our own could save some of these,
//! but not where serde buffers values without their types (`flatten`, `untagged`), where it would turn into another
//! value; so they are errors. The same walk counts nesting and elements as [`bounded`](crate::bounded) does for the
//! reader, so that nothing is written that would be refused when it is read.
//!
//! It writes nothing and asks the value to serialize itself once more, which for plain data costs little.

use std::{cell::Cell, fmt};

use serde::{Serialize, Serializer, ser};

use crate::bounded::MAX_DEPTH;

/// What the formats differ in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Format {
    pub(crate) name: &'static str,
    /// Text for people: no number that is not finite, and a unit struct is `null`.
    text: bool,
    /// Stores neither names nor types.
    positional: bool,
}

impl Format {
    #[cfg(feature = "json")]
    pub(crate) const JSON: Self = Self { name: "JSON", text: true, positional: false };
    #[cfg(feature = "msgpack")]
    pub(crate) const MSGPACK: Self = Self { name: "MessagePack", text: false, positional: false };
    #[cfg(feature = "postcard")]
    pub(crate) const POSTCARD: Self = Self { name: "postcard", text: false, positional: true };
}

/// Why a value cannot be encoded.
#[derive(Debug)]
pub(crate) struct Refused(String);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refused {}

impl ser::Error for Refused {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

/// The number of elements of all sequences and maps in a value that the format can express.
pub(crate) fn check<V: Serialize + ?Sized>(format: Format, value: &V) -> Result<u64, Refused> {
    let elements = Cell::new(0);
    value.serialize(Probe { format, depth: 0, in_some: false, elements: &elements })?;
    Ok(elements.get())
}

#[derive(Clone, Copy)]
struct Probe<'a> {
    format: Format,
    depth: usize,
    /// Whether this value stands directly in a `Some`.
    in_some: bool,
    elements: &'a Cell<u64>,
}

type Outcome = Result<(), Refused>;

impl Probe<'_> {
    fn deeper(self, levels: usize) -> Result<Self, Refused> {
        let depth = self.depth + levels;
        if depth > MAX_DEPTH {
            return Err(Refused(format!("the value is nested more than {MAX_DEPTH} levels deep")));
        }
        Ok(Self { depth, in_some: false, ..self })
    }

    fn number(self, finite: bool) -> Outcome {
        if finite || !self.format.text {
            return Ok(());
        }
        Err(Refused("JSON has no NaN and no infinity; use MessagePack or postcard".to_owned()))
    }

    /// Something that the format writes as nil.
    fn nil(self) -> Outcome {
        if !self.in_some || self.format.positional {
            return Ok(());
        }
        let name = self.format.name;
        Err(Refused(format!("{name} writes `Some(None)` and `Some(())` as `None`; use postcard or a type of your own")))
    }

    fn count(self) {
        self.elements.set(self.elements.get() + 1);
    }
}

macro_rules! plain {
    ($($method:ident($type:ty)),*) => {$(
        fn $method(self, _value: $type) -> Outcome {
            Ok(())
        }
    )*};
}

impl Serializer for Probe<'_> {
    type Ok = ();
    type Error = Refused;
    type SerializeSeq = Self;
    type SerializeTuple = Self;
    type SerializeTupleStruct = Self;
    type SerializeTupleVariant = Self;
    type SerializeMap = Self;
    type SerializeStruct = Self;
    type SerializeStructVariant = Self;

    plain!(
        serialize_bool(bool),
        serialize_i8(i8),
        serialize_i16(i16),
        serialize_i32(i32),
        serialize_i64(i64),
        serialize_i128(i128),
        serialize_u8(u8),
        serialize_u16(u16),
        serialize_u32(u32),
        serialize_u64(u64),
        serialize_u128(u128),
        serialize_char(char),
        serialize_str(&str),
        serialize_bytes(&[u8])
    );

    fn serialize_f32(self, value: f32) -> Outcome {
        self.number(value.is_finite())
    }

    fn serialize_f64(self, value: f64) -> Outcome {
        self.number(value.is_finite())
    }

    fn serialize_none(self) -> Outcome {
        self.nil()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Outcome {
        value.serialize(Self { in_some: true, ..self.deeper(1)? })
    }

    fn serialize_unit(self) -> Outcome {
        self.nil()
    }

    fn serialize_unit_struct(self, _name: &'static str) -> Outcome {
        if self.format.text { self.nil() } else { Ok(()) }
    }

    fn serialize_unit_variant(self, _name: &'static str, _index: u32, _variant: &'static str) -> Outcome {
        self.deeper(1).map(|_| ())
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _name: &'static str, value: &T) -> Outcome {
        value.serialize(Self { in_some: self.in_some, ..self.deeper(1)? })
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        _index: u32,
        _variant: &'static str,
        value: &T,
    ) -> Outcome {
        value.serialize(self.deeper(1)?)
    }

    fn serialize_seq(self, _length: Option<usize>) -> Result<Self, Refused> {
        self.deeper(1)
    }

    fn serialize_tuple(self, _length: usize) -> Result<Self, Refused> {
        self.deeper(1)
    }

    fn serialize_tuple_struct(self, _name: &'static str, _length: usize) -> Result<Self, Refused> {
        self.deeper(1)
    }

    fn serialize_tuple_variant(
        self,
        _name: &'static str,
        _index: u32,
        _variant: &'static str,
        _length: usize,
    ) -> Result<Self, Refused> {
        self.deeper(2)
    }

    fn serialize_map(self, _length: Option<usize>) -> Result<Self, Refused> {
        self.deeper(1)
    }

    fn serialize_struct(self, _name: &'static str, _length: usize) -> Result<Self, Refused> {
        self.deeper(1)
    }

    fn serialize_struct_variant(
        self,
        _name: &'static str,
        _index: u32,
        _variant: &'static str,
        _length: usize,
    ) -> Result<Self, Refused> {
        self.deeper(2)
    }

    fn collect_str<T: fmt::Display + ?Sized>(self, _value: &T) -> Outcome {
        Ok(())
    }

    fn is_human_readable(&self) -> bool {
        self.format.text
    }
}

impl ser::SerializeSeq for Probe<'_> {
    type Ok = ();
    type Error = Refused;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Outcome {
        self.count();
        value.serialize(*self)
    }

    fn end(self) -> Outcome {
        Ok(())
    }
}

impl ser::SerializeMap for Probe<'_> {
    type Ok = ();
    type Error = Refused;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Outcome {
        self.count();
        key.serialize(*self)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Outcome {
        value.serialize(*self)
    }

    fn end(self) -> Outcome {
        Ok(())
    }
}

macro_rules! fixed {
    ($($trait:ident $method:ident),*) => {$(
        impl ser::$trait for Probe<'_> {
            type Ok = ();
            type Error = Refused;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Outcome {
                value.serialize(*self)
            }

            fn end(self) -> Outcome {
                Ok(())
            }
        }
    )*};
}

fixed!(SerializeTuple serialize_element, SerializeTupleStruct serialize_field, SerializeTupleVariant serialize_field);

macro_rules! named {
    ($($trait:ident),*) => {$(
        impl ser::$trait for Probe<'_> {
            type Ok = ();
            type Error = Refused;

            fn serialize_field<T: Serialize + ?Sized>(&mut self, _name: &'static str, value: &T) -> Outcome {
                value.serialize(*self)
            }

            fn skip_field(&mut self, name: &'static str) -> Outcome {
                if self.format.positional {
                    let message = format!("field `{name}` was skipped; postcard stores no names, so that it cannot be");
                    return Err(Refused(message));
                }
                Ok(())
            }

            fn end(self) -> Outcome {
                Ok(())
            }
        }
    )*};
}

named!(SerializeStruct, SerializeStructVariant);
