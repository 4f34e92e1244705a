// A picture that is shown smaller than it is opens in full when it is touched.
window.addEventListener("load", () => {
  for (const img of document.querySelectorAll("article section img")) {
    if (img.closest("a") || img.naturalWidth <= img.clientWidth) continue;
    const link = document.createElement("a");
    link.href = img.currentSrc || img.src;
    link.title = "Open the picture in full";
    img.replaceWith(link);
    link.append(img);
  }
});
