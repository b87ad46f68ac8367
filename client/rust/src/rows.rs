//! From float slices to the bytes of a tensor.

use std::mem::size_of;

use bytes::Bytes;

use crate::v1::{sample_request::Source, Dtype, SampleRequest, Tensor};

#[cfg(target_endian = "big")]
compile_error!("the bytes of a tensor are little-endian, and slices are sent as they lie in memory");

/// Makes a tensor of `rows` rows, row-major, in one copy.
///
/// # Panics
/// If `rows` is 0, or the numbers do not make that many rows of the same length, at least 1.
#[must_use]
pub fn rows(numbers: &[f32], rows: usize) -> Tensor {
    let data = Bytes::copy_from_slice(bytemuck::cast_slice(numbers));
    tensor(data, numbers.len(), rows, Dtype::F32)
}

/// Numbers that a tensor owns.
struct Owned<T>(Vec<T>);

impl<T: bytemuck::NoUninit> AsRef<[u8]> for Owned<T> {
    fn as_ref(&self) -> &[u8] {
        bytemuck::cast_slice(&self.0)
    }
}

/// Makes a tensor of numbers that are [`Dtype::F16`] or [`Dtype::Bf16`] already, without a copy: as `u16` (their bits), or
/// as `half::f16` and `half::bf16` with that crate's feature `bytemuck`.
///
/// # Panics
/// As [`rows`], or if `T` or `dtype` is not of two bytes.
#[must_use]
pub fn rows_from_bits<T: bytemuck::NoUninit + Send>(numbers: Vec<T>, rows: usize, dtype: Dtype) -> Tensor {
    let is_half = matches!(dtype, Dtype::F16 | Dtype::Bf16) && size_of::<T>() == 2;
    assert!(is_half, "F16 and Bf16 have numbers of two bytes");
    let count = numbers.len();
    tensor(Bytes::from_owner(Owned(numbers)), count, rows, dtype)
}

/// As [`rows`], without a copy: the tensor owns the numbers, and clones of it share them.
///
/// # Panics
/// As [`rows`].
#[must_use]
pub fn rows_from_vec(numbers: Vec<f32>, rows: usize) -> Tensor {
    let count = numbers.len();
    tensor(Bytes::from_owner(Owned(numbers)), count, rows, Dtype::F32)
}

/// As [`rows`], rounded to `dtype` first: half the bytes for [`Dtype::F16`] and [`Dtype::Bf16`].
///
/// # Panics
/// As [`rows`].
#[must_use]
pub fn rows_as(numbers: &[f32], rows: usize, dtype: Dtype) -> Tensor {
    let halves = |bits: fn(f32) -> u16| numbers.iter().flat_map(|x| bits(*x).to_le_bytes()).collect::<Vec<u8>>();
    let data = match dtype {
        Dtype::Unspecified | Dtype::F32 => return self::rows(numbers, rows),
        Dtype::F16 => halves(f16_bits),
        Dtype::Bf16 => halves(bf16_bits),
        Dtype::F64 => numbers.iter().flat_map(|x| f64::from(*x).to_le_bytes()).collect(),
    };
    tensor(Bytes::from(data), numbers.len(), rows, dtype)
}

fn tensor(data: Bytes, numbers: usize, rows: usize, dtype: Dtype) -> Tensor {
    assert!(
        rows > 0 && numbers >= rows && numbers % rows == 0,
        "{numbers} numbers do not make {rows} rows"
    );
    let fits = |number: usize| u32::try_from(number).expect("rows and their length are below 2^32");
    Tensor {
        dtype: dtype.into(),
        rows: fits(rows),
        vocab_size: fits(numbers / rows),
        data,
    }
}

/// Makes a request for `num_samples` draws from every row of an uploaded distribution, all else at its default.
#[must_use]
pub fn from_distribution(name: impl Into<String>, num_samples: u32) -> SampleRequest {
    SampleRequest {
        source: Some(Source::Distribution(name.into())),
        num_samples,
        ..SampleRequest::default()
    }
}

/// Asks for `num_samples` draws, with replacement, from each row. Set what else is wanted on the request.
#[must_use]
pub fn sample(rows: Tensor, num_samples: u32) -> SampleRequest {
    SampleRequest {
        num_samples,
        source: Some(Source::Tensor(rows)),
        ..Default::default()
    }
}

/// The bits of the nearest binary16, ties to even; NaN stays NaN, and what is too large becomes infinity.
#[must_use]
pub fn f16_bits(number: f32) -> u16 {
    let bits = number.to_bits();
    #[allow(clippy::cast_possible_truncation)] // 16 bits are left
    let sign = (bits >> 16) as u16 & 0x8000;
    let magnitude = bits & 0x7fff_ffff;
    #[allow(clippy::cast_possible_truncation)] // each arm is below 2^15
    let half = match magnitude {
        0x7f80_0001.. => 0x7e00,
        0x4780_0000..=0x7f80_0000 => 0x7c00,
        // 2^-14 and above are normal: the exponent is rebased, and a carry of the rounding may make it infinity.
        0x3880_0000..=0x477f_ffff => round_shift(magnitude - 0x3800_0000, 13) as u16,
        // Below, the mantissa with its leading one counts units of 2^-24.
        0x3300_0000..=0x387f_ffff => round_shift(magnitude & 0x007f_ffff | 0x0080_0000, 126 - (magnitude >> 23)) as u16,
        _ => 0,
    };
    sign | half
}

/// The bits of the nearest bfloat16, ties to even; NaN stays NaN, and what is too large becomes infinity.
#[must_use]
pub fn bf16_bits(number: f32) -> u16 {
    let bits = number.to_bits();
    #[allow(clippy::cast_possible_truncation)] // 16 bits are left
    if number.is_nan() {
        (bits >> 16) as u16 | 0x0040
    } else {
        round_shift(bits, 16) as u16
    }
}

/// Shifts right, rounding to nearest, ties to even. The sum cannot overflow: no pattern but a NaN's comes so high.
fn round_shift(bits: u32, shift: u32) -> u32 {
    (bits + ((1 << (shift - 1)) - 1) + ((bits >> shift) & 1)) >> shift
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_are_rounded_to_nearest_even() {
        for (number, bits) in [
            (0.0, 0x0000),
            (-0.0, 0x8000),
            (1.0, 0x3c00),
            (-2.5, 0xc100),
            (65504.0, 0x7bff),
            (65519.0, 0x7bff),
            (65520.0, 0x7c00),
            (f32::NEG_INFINITY, 0xfc00),
            (1.0 + 1.0 / 2048.0, 0x3c00), // a tie, to even below
            (1.0 + 3.0 / 2048.0, 0x3c02), // a tie, to even above
            (2.0_f32.powi(-14), 0x0400),
            (2.0_f32.powi(-24), 0x0001),
            (2.0_f32.powi(-25), 0x0000), // a tie with zero
            (1.5 * 2.0_f32.powi(-25), 0x0001),
            (1.5 * 2.0_f32.powi(-24), 0x0002),
        ] {
            assert_eq!(f16_bits(number), bits, "{number:e}");
        }
        assert_eq!(f16_bits(f32::NAN) & 0x7c00, 0x7c00);
        assert_ne!(f16_bits(f32::NAN) & 0x03ff, 0);
    }

    #[test]
    fn bfloats_are_rounded_to_nearest_even() {
        for (bits, want) in [
            (0x3f80_0000, 0x3f80),
            (0x3f80_8000, 0x3f80), // a tie, to even below
            (0x3f81_8000, 0x3f82), // a tie, to even above
            (0x3f80_8001, 0x3f81),
            (0x7f7f_ffff, 0x7f80), // the largest binary32 overflows
            (0xff80_0000, 0xff80),
        ] {
            assert_eq!(bf16_bits(f32::from_bits(bits)), want, "{bits:x}");
        }
        assert_eq!(bf16_bits(f32::from_bits(0x7f80_0001)), 0x7fc0);
        assert_eq!(bf16_bits(f32::from_bits(0xffff_ffff)), 0xffff);
    }

    #[test]
    fn rows_are_little_endian_and_shared_without_a_copy() {
        let tensor = rows(&[1.0, 2.0, 3.0, 4.0], 2);
        assert_eq!((tensor.rows, tensor.vocab_size), (2, 2));
        assert_eq!(&tensor.data[..8], &[0, 0, 0x80, 0x3f, 0, 0, 0, 0x40]);
        let numbers = vec![1.0_f32; 8];
        let address = numbers.as_ptr() as usize;
        let tensor = rows_from_vec(numbers, 1);
        assert_eq!(tensor.data.as_ptr() as usize, address);
        assert_eq!(rows_as(&[1.0, 2.0], 1, Dtype::F64).data.len(), 16);
    }

    #[test]
    fn bits_are_shared_without_a_copy() {
        let bits = vec![0x3c00_u16, 0, 0x7bff, 1];
        let address = bits.as_ptr() as usize;
        let tensor = rows_from_bits(bits, 2, Dtype::Bf16);
        assert_eq!(tensor.data.as_ptr() as usize, address);
        assert_eq!((tensor.rows, tensor.vocab_size, tensor.dtype()), (2, 2, Dtype::Bf16));
        assert_eq!(&tensor.data[..], &[0, 0x3c, 0, 0, 0xff, 0x7b, 1, 0]);
    }

    #[test]
    #[should_panic(expected = "two bytes")]
    fn other_numbers_are_no_halves() {
        let _ = rows_from_bits(vec![1.0_f32], 1, Dtype::F16);
    }

    #[test]
    #[should_panic(expected = "do not make")]
    fn ragged_rows_are_refused() {
        let _ = rows(&[1.0, 2.0, 3.0], 2);
    }
}
