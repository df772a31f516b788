// Waveform and spectrogram of mono samples on canvases.

const WINDOW = 512;

// Returns where the loudest sample is, as a fraction of the length.
export function drawWaveform(canvas, samples) {
  const { width, height } = canvas, pen = canvas.getContext("2d");
  pen.clearRect(0, 0, width, height);
  pen.fillStyle = "#6fb1ff";
  let peak = 0, at = 0;
  for (let i = 0; i < samples.length; i++) if (Math.abs(samples[i]) > peak) { peak = Math.abs(samples[i]); at = i; }
  for (let x = 0; x < width; x++) {
    let low = 0, high = 0;
    const first = Math.floor((x * samples.length) / width), last = Math.max(first + 1, Math.floor(((x + 1) * samples.length) / width));
    for (let i = first; i < last && i < samples.length; i++) { low = Math.min(low, samples[i]); high = Math.max(high, samples[i]); }
    const scale = (height / 2 - 2) / (peak || 1);
    pen.fillRect(x, height / 2 - high * scale, 1, Math.max(1, (high - low) * scale));
  }
  return samples.length ? at / samples.length : 0;
}

// Draws decibels below the loudest, 80 dB deep; returns the highest frequency shown.
export function drawSpectrogram(canvas, samples, rate) {
  const { width, height } = canvas, pen = canvas.getContext("2d");
  const image = pen.createImageData(width, height);
  const columns = Array.from({ length: width }, (_, x) => powers(samples, Math.floor((x * Math.max(0, samples.length - WINDOW)) / Math.max(1, width - 1))));
  let loudest = 1e-12;
  for (const column of columns) for (const power of column) if (power > loudest) loudest = power;
  const top = Math.min(rate / 2, 10000), bins = Math.max(1, Math.floor((top / rate) * WINDOW));
  for (let x = 0; x < width; x++) {
    for (let y = 0; y < height; y++) {
      const power = columns[x][Math.min(WINDOW / 2 - 1, Math.floor(((height - 1 - y) * bins) / height))];
      const level = Math.max(0, 1 + (10 * Math.log10(power / loudest + 1e-12)) / 80);
      image.data.set(colour(level), 4 * (y * width + x));
    }
  }
  pen.putImageData(image, 0, 0);
  return top;
}

function colour(level) {
  return [255 * Math.min(1, 1.8 * level * level), 255 * level ** 2.2, 255 * Math.min(1, 0.25 + 0.9 * Math.sin(2.6 * level)) * Math.min(1, 4 * level), 255];
}

function powers(samples, start) {
  const re = new Float64Array(WINDOW), im = new Float64Array(WINDOW);
  for (let i = 0; i < WINDOW; i++) re[i] = (samples[start + i] ?? 0) * (0.5 - 0.5 * Math.cos((2 * Math.PI * i) / WINDOW));
  transform(re, im);
  return Float64Array.from({ length: WINDOW / 2 }, (_, k) => re[k] * re[k] + im[k] * im[k]);
}

// In-place Fourier transform of a power of two.
function transform(re, im) {
  const n = re.length;
  for (let i = 1, j = 0; i < n; i++) {
    let bit = n >> 1;
    for (; j & bit; bit >>= 1) j ^= bit;
    j ^= bit;
    if (i < j) { [re[i], re[j]] = [re[j], re[i]]; [im[i], im[j]] = [im[j], im[i]]; }
  }
  for (let size = 2; size <= n; size *= 2) {
    for (let start = 0; start < n; start += size) {
      for (let k = 0; k < size / 2; k++) {
        const angle = (-2 * Math.PI * k) / size, c = Math.cos(angle), s = Math.sin(angle), a = start + k, b = a + size / 2;
        const r = re[b] * c - im[b] * s, q = re[b] * s + im[b] * c;
        re[b] = re[a] - r; im[b] = im[a] - q; re[a] += r; im[a] += q;
      }
    }
  }
}
