// Runs inside of the reader's frame, at the end of a library page, in a sandbox: it shares no
// origin with the site, and anything that it says is only a hint to the frame's owner.
(function () {
  "use strict";
  if (window.parent === window) return;

  function tell(message) {
    window.parent.postMessage(message, "*");
  }

  tell({ kind: "shown", path: location.pathname });

  document.addEventListener("click", function (event) {
    if (event.defaultPrevented || event.button !== 0) return;
    const link = event.target instanceof Element && event.target.closest("a[href]");
    if (!link) return;
    const target = new URL(link.href, document.baseURI);
    if (target.origin === location.origin && target.pathname === location.pathname) return;
    event.preventDefault();
    tell({ kind: "follow", href: target.href });
  });
})();
