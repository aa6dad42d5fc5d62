"use strict";
// Counts down from what the server said was left, whatever this device's clock shows.
const left = document.getElementById("left");
if (left) {
  const end = Date.now() + Number(left.dataset.seconds) * 1000;
  const units = JSON.parse(left.dataset.units);
  const show = () => {
    const whole = Math.ceil((end - Date.now()) / 1000);
    if (whole <= 0) {
      left.textContent = left.dataset.over;
      return;
    }
    const counts = [Math.floor(whole / 86400), Math.floor(whole / 3600) % 24, Math.floor(whole / 60) % 60, whole % 60];
    const first = counts.findIndex((count, place) => count > 0 || place === 3);
    const words = counts.map((count, place) => count + units[place]).slice(first, first + 2);
    left.textContent = left.dataset.words.replace("*", words.join(" "));
    setTimeout(show, 250);
  };
  document.getElementById("loaded").hidden = true;
  show();
}
