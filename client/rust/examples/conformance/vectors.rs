//! What vectors.json holds, taken out of its JSON.

use std::error::Error;

use base64::prelude::{Engine, BASE64_STANDARD};
use prost::Message;
use serde_json::Value;

/// The bytes of a base64 string.
pub fn bytes(value: &Value) -> Result<Vec<u8>, Box<dyn Error>> {
    Ok(BASE64_STANDARD.decode(text(value)?)?)
}

/// A serialized message in base64.
pub fn message<M: Message + Default>(value: &Value) -> Result<M, Box<dyn Error>> {
    Ok(M::decode(bytes(value)?.as_slice())?)
}

/// A string.
pub fn text(value: &Value) -> Result<&str, Box<dyn Error>> {
    value.as_str().ok_or_else(|| format!("{value} is no string").into())
}

/// A list; absent is empty.
pub fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// A float as ProtoJSON writes it.
pub fn float(value: &Value) -> Option<f64> {
    match value.as_str() {
        Some("NaN") => Some(f64::NAN),
        Some("Infinity") => Some(f64::INFINITY),
        Some("-Infinity") => Some(f64::NEG_INFINITY),
        Some(_) => None,
        None => value.as_f64(),
    }
}

/// A whole number, plain or (64 bits) in a string.
pub fn whole<T: TryFrom<i128>>(value: &Value) -> Option<T> {
    let number = match value {
        Value::String(text) => text.parse().ok()?,
        _ => value
            .as_i64()
            .map(i128::from)
            .or_else(|| value.as_u64().map(i128::from))?,
    };
    T::try_from(number).ok()
}
