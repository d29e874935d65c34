import Foundation
import VlmpCore

/// What is drawn over a photo: its cells that are kept, and those that are not. Places are shares of the photo's width
/// and height, from its upper left corner.
public struct KeptTokens: Equatable, Sendable {
    public struct Mark: Equatable, Sendable {
        public let place: CGRect
        /// From 1, in order of selection; nil where the stage tells none.
        public let number: Int?
    }

    public let kept: [Mark]
    public let dropped: [CGRect]
    /// Kept tokens on the bars beside the photo.
    public let onPadding: Int
    /// How many are shown of how many.
    public let shown: Int
    public let all: Int
    public let ordered: Bool

    /// The tokens of `stage` of an answer, of which the first `shown` in order of selection are kept; nil: all.
    public init(_ answer: Answer, stage: Int, shown: Int?, _ manifest: Manifest, _ picture: Picture) {
        ordered = stage == answer.stages.count - 1 && answer.order.count == answer.kept.count && manifest.ordered
        let tokens = ordered ? answer.order : answer.stages[stage]
        all = tokens.count
        self.shown = ordered ? min(max(shown ?? all, 0), all) : all
        let numbers = Dictionary(uniqueKeysWithValues: zip(tokens.prefix(self.shown), 1...))
        let place = placement(width: picture.width, height: picture.height, in: manifest.image)
        var (kept, dropped, onPadding): ([Mark], [CGRect], Int) = ([], [], 0)
        for token in 0..<manifest.image.visualTokens {
            let onPhoto = manifest.image.cell(of: token).flatMap { share($0, place) }
            guard let number = numbers[token] else {
                if let onPhoto { dropped.append(onPhoto) }
                continue
            }
            if let onPhoto {
                kept.append(Mark(place: onPhoto, number: ordered ? number : nil))
            } else {
                onPadding += 1
            }
        }
        (self.kept, self.dropped, self.onPadding) = (kept, dropped, onPadding)
    }

    /// A line under the photo.
    public var line: String {
        let start = ordered ? "The first \(shown) of \(all) in order of selection" : "All \(all) kept tokens"
        return onPadding == 0 ? start : start + "; \(onPadding) of them lie beside the photo, on its padding"
    }
}

/// A cell of the fitted picture as a share of the photo that lies in it, cut at the photo's edge; nil outside of it.
private func share(_ cell: Cell, _ place: Placement) -> CGRect? {
    let whole = CGRect(x: 0, y: 0, width: 1, height: 1)
    let (width, height) = (Double(place.width), Double(place.height))
    let rect = CGRect(
        x: (cell.left - Double(place.left)) / width, y: (cell.top - Double(place.top)) / height,
        width: cell.width / width, height: cell.height / height)
    let seen = rect.intersection(whole)
    return seen.isNull || seen.width < 1e-9 || seen.height < 1e-9 ? nil : seen
}
