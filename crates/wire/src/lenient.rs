//! Requests as clients really send them: numbers and booleans may come as text (query strings,
//! form fields, the legacy CLI's `"job_id":"123"`), text may come as numbers, unknown fields are
//! ignored. Errors name the field.

use forebay_types::{Error, Result};
use serde::de::value::{MapDeserializer, SeqDeserializer};
use serde::de::{DeserializeOwned, IntoDeserializer, Visitor};
use serde::forward_to_deserialize_any;
use serde_json::{Map, Value};

/// Reads a request type from merged query and body fields.
///
/// # Errors
/// `INVALID_PARAMETER_VALUE` that names the field and what was expected there.
pub fn from_map<T: DeserializeOwned>(fields: Map<String, Value>) -> Result<T> {
    serde_path_to_error::deserialize(Lenient(Value::Object(fields))).map_err(|error| {
        let path = error.path().to_string();
        let reason = error.into_inner().to_string();
        // A missing field is reported at its parent, and its name stands in the reason.
        Error::invalid(match path.as_str() {
            "." => format!("Invalid request: {reason}"),
            path => format!("Invalid value for field '{path}': {reason}"),
        })
    })
}

struct Lenient(Value);

type JsonError = serde_json::Error;

impl Lenient {
    fn number_text(&self) -> Option<&str> {
        match &self.0 {
            Value::String(text) => Some(text.trim()),
            _ => None,
        }
    }
}

macro_rules! parse_number {
    ($($method:ident => $visit:ident: $type:ty),+ $(,)?) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, JsonError> {
            match self.number_text().and_then(|text| text.parse::<$type>().ok()) {
                Some(number) => visitor.$visit(number),
                None => self.0.$method(visitor),
            }
        }
    )+};
}

impl<'de> serde::Deserializer<'de> for Lenient {
    type Error = JsonError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, JsonError> {
        match self.0 {
            Value::Array(items) => {
                visitor.visit_seq(SeqDeserializer::new(items.into_iter().map(Self)))
            }
            Value::Object(fields) => visitor.visit_map(MapDeserializer::new(
                fields.into_iter().map(|(k, v)| (k, Self(v))),
            )),
            other => other.deserialize_any(visitor),
        }
    }

    parse_number! {
        deserialize_i8 => visit_i8: i8, deserialize_i16 => visit_i16: i16,
        deserialize_i32 => visit_i32: i32, deserialize_i64 => visit_i64: i64,
        deserialize_u8 => visit_u8: u8, deserialize_u16 => visit_u16: u16,
        deserialize_u32 => visit_u32: u32, deserialize_u64 => visit_u64: u64,
        deserialize_f32 => visit_f32: f32, deserialize_f64 => visit_f64: f64,
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, JsonError> {
        match self.number_text().map(str::to_ascii_lowercase).as_deref() {
            Some("true") => visitor.visit_bool(true),
            Some("false") => visitor.visit_bool(false),
            _ => self.0.deserialize_bool(visitor),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, JsonError> {
        match self.0 {
            Value::Number(number) => visitor.visit_string(number.to_string()),
            Value::Bool(flag) => visitor.visit_string(flag.to_string()),
            other => other.deserialize_string(visitor),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, JsonError> {
        self.deserialize_string(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, JsonError> {
        match self.0 {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, JsonError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, JsonError> {
        self.0.deserialize_enum(name, variants, visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, JsonError> {
        match &self.0 {
            Value::Object(_) => self.deserialize_any(visitor),
            _ => self.0.deserialize_map(visitor),
        }
    }

    forward_to_deserialize_any! {
        i128 u128 char bytes byte_buf unit unit_struct seq tuple tuple_struct map identifier
        ignored_any
    }
}

impl IntoDeserializer<'_, JsonError> for Lenient {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    #[derive(Debug, Deserialize, PartialEq)]
    struct Request {
        job_id: i64,
        recursive: Option<bool>,
        name: Option<String>,
        #[serde(default)]
        tags: Vec<Inner>,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    struct Inner {
        count: u32,
    }

    fn read(value: Value) -> Result<Request> {
        let Value::Object(map) = value else {
            panic!("an object")
        };
        from_map(map)
    }

    #[test]
    fn text_reads_as_numbers_and_booleans_also_below_lists() {
        let request = read(json!({
            "job_id": "42", "recursive": "True", "name": 7, "tags": [{"count": "3"}], "more": {}
        }));
        let expected = Request {
            job_id: 42,
            recursive: Some(true),
            name: Some("7".to_owned()),
            tags: vec![Inner { count: 3 }],
        };
        assert_eq!(request.unwrap(), expected);
    }

    #[test]
    fn errors_name_the_field() {
        let wrong = read(json!({"job_id": 1, "tags": [{"count": "many"}]})).unwrap_err();
        assert!(wrong.message.contains("'tags[0].count'"), "{wrong}");
        let missing = read(json!({})).unwrap_err();
        assert!(missing.message.contains("job_id"), "{missing}");
    }
}
