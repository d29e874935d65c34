import SwiftUI
import UIKit
import VlmpApp
import VlmpCore

/// The kept tokens over the photo, with a slider in order of selection.
struct KeptSection: View {
    let photo: Photo
    let answer: Answer
    let manifest: Manifest
    @State private var stage = 0
    /// Of the last stage, in order of selection.
    @State private var shown = 0.0

    var body: some View {
        let last = answer.stages.count - 1
        let kept = KeptTokens(answer, stage: min(stage, last), shown: Int(shown), manifest, photo.picture)
        Section("What the model still sees") {
            PhotoView(photo: photo, kept: kept)
            if answer.stages.count > 1 {
                Picker("Tokens that are kept after", selection: $stage) {
                    ForEach(Array(manifest.stages.indices), id: \.self) { number in
                        Text(manifest.stages[number].line).tag(number)
                    }
                }
            }
            if kept.ordered {
                Slider(value: $shown, in: 0...Double(max(kept.all, 1)), step: 1) {
                    Text("How many kept tokens are shown")
                }
                .accessibilityValue(kept.line)
            }
            Text(kept.line)
                .font(.footnote)
                .foregroundStyle(.secondary)
        }
        .onChange(of: answer, initial: true) { _, now in
            stage = now.stages.count - 1
            shown = Double(now.kept.count)
        }
    }
}

/// The photo, with its kept tokens framed and all others darkened.
struct PhotoView: View {
    let photo: Photo
    let kept: KeptTokens?
    @State private var preview: UIImage?

    var body: some View {
        let shape = CGFloat(photo.picture.width) / CGFloat(photo.picture.height)
        Canvas { context, size in
            if let preview { context.draw(Image(uiImage: preview), in: CGRect(origin: .zero, size: size)) }
            if let kept { draw(kept, &context, size) }
        }
        .aspectRatio(shape, contentMode: .fit)
        .frame(maxHeight: 420)
        .task(id: photo.id) {
            let size = photo.picture.width > photo.picture.height
                ? CGSize(width: 1200, height: 1200 / shape) : CGSize(width: 1200 * shape, height: 1200)
            preview = await UIImage(data: photo.data)?.byPreparingThumbnail(ofSize: size)
        }
        .accessibilityElement(children: .ignore)
        .accessibilityLabel("The photo \(photo.name)")
        .accessibilityValue(kept?.line ?? "")
        .accessibilityAddTraits(.isImage)
    }

    private func draw(_ kept: KeptTokens, _ context: inout GraphicsContext, _ size: CGSize) {
        for cell in kept.dropped {
            context.fill(Path(scaled(cell, size)), with: .color(.black.opacity(0.65)))
        }
        for mark in kept.kept {
            let cell = scaled(mark.place, size)
            context.stroke(Path(cell), with: .color(.yellow), lineWidth: max(1.5, cell.width / 16))
            guard let number = mark.number, cell.width >= 10 else { continue }
            let text = Text("\(number)").font(.system(size: cell.height * 0.5, weight: .bold)).foregroundStyle(.yellow)
            context.draw(text, at: CGPoint(x: cell.midX, y: cell.midY))
        }
    }

    private func scaled(_ share: CGRect, _ size: CGSize) -> CGRect {
        CGRect(
            x: share.minX * size.width, y: share.minY * size.height, width: share.width * size.width,
            height: share.height * size.height)
    }
}
