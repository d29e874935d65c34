import Foundation
import PhotosUI
import SwiftUI
import UIKit
import VlmpApp

/// Chooses or takes the photo.
struct PhotoSection: View {
    let model: AppModel
    @State private var picked: PhotosPickerItem?
    @State private var taking = false

    var body: some View {
        Section {
            if let photo = model.photo {
                if model.turns.first?.answer?.stages.isEmpty ?? true { PhotoView(photo: photo, kept: nil) }
                Text("\(photo.name), \(photo.picture.width) × \(photo.picture.height) pixels")
                    .font(.footnote)
                    .foregroundStyle(.secondary)
            } else {
                Text("No photo yet. Choose one, take one, or open one with this app.")
            }
            PhotosPicker(selection: $picked, matching: .images, preferredItemEncoding: .compatible) {
                Label("Choose a photo", systemImage: "photo")
            }
            .disabled(!model.isIdle)
            if UIImagePickerController.isSourceTypeAvailable(.camera) {
                Button {
                    taking = true
                } label: {
                    Label("Take a photo", systemImage: "camera")
                }
                .disabled(!model.isIdle)
            }
        }
        .onChange(of: picked) { _, item in
            guard let item else { return }
            picked = nil  // so that the same photo can be chosen again
            Task { await load(item) }
        }
        .fullScreenCover(isPresented: $taking) {
            Camera { data in
                taking = false
                if let data { model.choose(data, name: "camera") }
            }
            .ignoresSafeArea()
        }
    }

    private func load(_ item: PhotosPickerItem) async {
        do {
            guard let data = try await item.loadTransferable(type: Data.self) else {
                return model.tell("The photo cannot be read.")
            }
            model.choose(data, name: "photo")
        } catch {
            model.tell("The photo cannot be read: \(error.localizedDescription)")
        }
    }
}

/// UIKit's camera. `done` gets a JPEG, or nil where it was left without one.
private struct Camera: UIViewControllerRepresentable {
    let done: (Data?) -> Void

    func makeUIViewController(context: Context) -> UIImagePickerController {
        let picker = UIImagePickerController()
        picker.sourceType = .camera
        picker.delegate = context.coordinator
        return picker
    }

    func updateUIViewController(_ picker: UIImagePickerController, context: Context) {}

    func makeCoordinator() -> Coordinator { Coordinator(done: done) }

    final class Coordinator: NSObject, UIImagePickerControllerDelegate, UINavigationControllerDelegate {
        private let done: (Data?) -> Void

        init(done: @escaping (Data?) -> Void) {
            self.done = done
        }

        func imagePickerController(
            _ picker: UIImagePickerController,
            didFinishPickingMediaWithInfo info: [UIImagePickerController.InfoKey: Any]
        ) {
            done((info[.originalImage] as? UIImage)?.jpegData(compressionQuality: 0.95))
        }

        func imagePickerControllerDidCancel(_ picker: UIImagePickerController) {
            done(nil)
        }
    }
}
